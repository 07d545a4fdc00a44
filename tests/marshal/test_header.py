"""safehandle_debug.h, from an extension that is compiled here."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from support_handles import Probe, refs
from support_native import compile_c, python_include

from safehandle_debug import (
    HandleClosedError,
    NullHandleError,
    SafeFileHandle,
    SafeHandle,
    SafePipeHandle,
    _native,
)
from safehandle_debug.marshal import get_include

EXTENSION = r"""
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "safehandle_debug.h"

static const SafeHandleDebug_API *handles;

static PyObject *is_handle(PyObject *module, PyObject *object)
{ return PyBool_FromLong(handles->check(object)); }

static PyObject *during(PyObject *module, PyObject *args)
{
    PyObject *object, *callback;
    int64_t value;
    if (!PyArg_ParseTuple(args, "OO", &object, &callback)
        || handles->add_ref(object, &value) < 0) {
        return NULL;
    }
    PyObject *result = PyObject_CallFunction(callback, "L", (long long)value);
    if (handles->release(object) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *release(PyObject *module, PyObject *object)
{
    if (handles->release(object) < 0) {
        return NULL;
    }
    return PyLong_FromLongLong(handles->value(object));
}

static PyObject *acquire(PyObject *module, PyObject *args)
{
    PyTypeObject *type;
    const char *path;
    uint32_t ticket;
    if (!PyArg_ParseTuple(args, "O!s", &PyType_Type, &type, &path)) {
        return NULL;
    }
    PyObject *detail = PyUnicode_FromString(path);
    PyObject *handle = handles->prepare(type, &ticket);
    if (handle == NULL) {
        Py_XDECREF(detail);
        return NULL;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
        handle = handles->abandon(handle, ticket);
    }
    else {
        handle = handles->complete(handle, ticket, fd, detail);
    }
    Py_XDECREF(detail);
    return handle;
}

static PyMethodDef methods[] = {
    {"is_handle", is_handle, METH_O, NULL},
    {"during", during, METH_VARARGS, NULL},
    {"release", release, METH_O, NULL},
    {"acquire", acquire, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "other", .m_size = -1, .m_methods = methods,
};

PyMODINIT_FUNC PyInit_other(void)
{
    handles = SafeHandleDebug_Import();
    if (handles == NULL) {
        return NULL;
    }
    return PyModule_Create(&definition);
}
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The extension module."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    path = tmp_path_factory.mktemp("extension") / f"other{suffix}"
    compile_c(EXTENSION, path, python_include(), f"-I{get_include()}")
    loader = importlib.machinery.ExtensionFileLoader("other", str(path))
    spec = importlib.util.spec_from_loader("other", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_header_is_where_it_is_said_to_be() -> None:
    assert (Path(get_include()) / "safehandle_debug.h").is_file()


def test_a_reference_during_a_use(other: Any) -> None:
    released: list[int] = []
    handle = Probe(released)
    inside: list[tuple[int, int]] = []

    def use(value: int) -> str:
        inside.append((value, refs(handle)))
        handle.close()
        assert not handle.is_closed
        return "result"

    assert other.during(handle, use) == "result"
    assert inside == [(5, 2)]
    assert released == [5]


def test_what_is_refused(other: Any) -> None:
    handle = Probe([])
    handle.close()
    with pytest.raises(HandleClosedError):
        other.during(handle, print)
    with pytest.raises(NullHandleError):
        other.during(None, print)
    with pytest.raises(TypeError, match="a SafeHandle is needed, not int"):
        other.during(5, print)
    with pytest.raises(TypeError):
        other.release(5)
    assert other.is_handle(handle)
    assert not other.is_handle(5)


def test_a_release_without_a_reference_is_told(other: Any) -> None:
    handle = Probe([])
    before = _native.problem_count()
    assert other.release(handle) == 5
    assert _native.problem_count() == before + 1
    with pytest.raises(HandleClosedError):
        other.release(handle)


@pytest.mark.parametrize("kind", [SafeFileHandle, SafePipeHandle])
def test_acquiring(other: Any, kind: type[SafeFileHandle]) -> None:
    with other.acquire(kind, os.devnull) as handle:
        assert type(handle) is kind
        assert os.fstat(handle.fileno())
        assert refs(handle) == 1


def test_acquiring_what_cannot_be_opened(other: Any) -> None:
    before = _native.live_count()
    with pytest.raises(FileNotFoundError):
        other.acquire(SafeFileHandle, "/nowhere/at/all")
    with pytest.raises(TypeError, match="not a SafeHandle type"):
        other.acquire(int, os.devnull)
    with pytest.raises(TypeError, match="abstract"):
        other.acquire(SafeHandle, os.devnull)
    assert _native.live_count() == before
