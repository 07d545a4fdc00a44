"""Signatures: what is understood, what is refused, and how editors see it."""

from __future__ import annotations

import ctypes
import errno
import inspect
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from support_native import CALLBACK, Callback, native_library

from safehandle_debug import (
    HandleNotSupportedError,
    NullHandleError,
    SafeFileHandle,
    SafeHandle,
    SafeMemoryMappedViewHandle,
)
from safehandle_debug.marshal import (
    NativeFunction,
    Out,
    Ref,
    Structure,
    address_import,
    c_int,
    c_size_t,
    c_ssize_t,
    c_uint,
    extern,
    last_errno,
    library_import,
)
from safehandle_debug.marshal.types import CType

NATIVE = native_library()


def declared(annotation: Any, returned: Any = None) -> NativeFunction[..., Any]:
    """A function with one parameter of the annotation."""

    def native(value: object) -> None: ...

    native.__annotations__.update({"value": annotation, "return": returned})
    return library_import(NATIVE, entry_point="echo")(native)


def test_a_declaration_looks_like_its_function() -> None:
    @library_import(None, entry_point="getppid")
    def parent(unused: c_int = 3) -> c_int:
        """Who started this process."""
        extern()

    assert parent.__name__ == "parent"
    assert parent.__doc__ == "Who started this process."
    assert parent.__module__ == __name__
    assert str(inspect.signature(parent)) == "(unused: 'c_int' = 3) -> 'c_int'"
    assert repr(parent).startswith("<native function parent at 0x")
    assert parent() == parent(unused=5)
    assert parent.address


def test_arguments_by_name_and_default() -> None:
    @library_import(NATIVE, entry_point="put_two")
    def call(a: c_ssize_t, b: c_int, c: c_int = 2, d: c_int = -1) -> c_int: ...

    memory = (ctypes.c_int * 2)()
    here = ctypes.addressof(memory)
    assert call(here, 1) == -1
    assert call(b=1, d=0, a=here) == 0
    assert list(memory) == [1, 2]
    for args, names, text in (
        ((), {}, "takes 2 to 4 arguments, 0 given"),
        ((1, 2, 3, 4, 5), {}, "takes 2 to 4 arguments, 5 given"),
        ((1, 2), {"a": 3}, "got 'a' twice"),
        ((1, 2), {"z": 3}, "has no parameter 'z'"),
    ):
        with pytest.raises(TypeError, match=text):
            call(*args, **names)


@pytest.mark.parametrize(
    ("annotation", "error", "text"),
    [
        (int, TypeError, "does not say how wide"),
        (object, TypeError, "object cannot be passed"),
        (dict[str, int], HandleNotSupportedError, "arrays"),
        (SafeFileHandle | None, HandleNotSupportedError, "never None"),
        (Out[SafeFileHandle | None], HandleNotSupportedError, "never None"),
        (Out[object], TypeError, "cannot be passed"),
        (Callable[[int], int], TypeError, "CFUNCTYPE"),
        (int | str, TypeError, "cannot be passed"),
        (c_int | None, TypeError, "a number is never None"),
        (ctypes.c_wchar, TypeError, "cannot be passed"),
    ],
)
def test_what_cannot_be_declared(annotation: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        declared(annotation)
    assert "native(): value" in str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "error"),
    [(int, TypeError), (SafeFileHandle | None, HandleNotSupportedError), (list[int], Exception)],
)
def test_what_cannot_be_returned(annotation: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="the result"):
        declared(c_int, annotation)


def test_a_view_cannot_be_made_by_native_code() -> None:
    """Nobody would know how much to unmap."""
    view = SafeMemoryMappedViewHandle
    with pytest.raises(HandleNotSupportedError, match="length of a view"):
        declared(c_int, view)
    for cell in (Out[view], Ref[view]):  # type: ignore[valid-type]
        with pytest.raises(HandleNotSupportedError, match="length of a view"):
            declared(cell)
    declared(view)


def test_a_parameter_without_annotation() -> None:
    def no_type(value) -> None: ...  # type: ignore[no-untyped-def]

    def no_result(value: c_int): ...  # type: ignore[no-untyped-def]

    def variadic(*values: c_int) -> None: ...

    for function in (no_type, no_result, variadic):
        with pytest.raises(TypeError, match=f"{function.__name__}\\(\\)"):
            library_import(NATIVE, entry_point="echo")(function)


def test_too_many_words() -> None:
    parameters = ", ".join(f"a{i}: c_int" for i in range(17))
    names: dict[str, Any] = {"c_int": c_int}
    exec(f"def native({parameters}) -> None: ...", names)
    with pytest.raises(ValueError, match="more than 16 words"):
        library_import(NATIVE, entry_point="echo")(names["native"])


def test_libraries_and_symbols_that_are_not_there() -> None:
    def native() -> None: ...

    with pytest.raises(OSError, match="no-such-library"):
        library_import("no-such-library.so")(native)
    with pytest.raises(AttributeError, match="no_such_symbol"):
        library_import(NATIVE, entry_point="no_such_symbol")(native)
    with pytest.raises(ValueError, match="NULL"):
        address_import(0)(native)


def test_paths(tmp_path: Path) -> None:
    copy = shutil.copy(NATIVE, tmp_path / "copy.so")

    @library_import(Path(copy))
    def echo(value: c_ssize_t) -> c_ssize_t: ...

    assert echo(5) == 5


def test_by_address() -> None:
    function = ctypes.CDLL(NATIVE).echo_int
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None

    @address_import(address)
    def echo(value: SafeFileHandle) -> c_int: ...

    assert echo(SafeFileHandle(7, owns_handle=False)) == 7


def test_a_handle_of_another_width() -> None:
    """Its own width is the kernel's or a pointer's; the signature can say another."""

    class Word(SafeHandle):
        native_type = "int"

        def __init__(self) -> None:
            super().__init__(-1)

        @property
        def is_invalid(self) -> bool:
            return self.handle == -1

        def release_handle(self) -> bool:
            return True

    @library_import(NATIVE, entry_point="fail")
    def of_its_own(error: c_int) -> Word: ...

    @library_import(NATIVE, entry_point="wide_unsigned")
    def widened() -> Annotated[Word, CType("q")]: ...

    assert of_its_own(3).is_invalid
    assert widened().handle == -1


def test_errno_is_of_the_thread_and_the_call() -> None:
    @library_import(NATIVE)
    def fail(error: c_int) -> c_int: ...

    @library_import(None)
    def getpid() -> c_int: ...

    seen: list[int] = []

    def elsewhere() -> None:
        fail(errno.EBADF)
        seen.append(last_errno())

    fail(errno.ENOENT)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert last_errno() == errno.ENOENT
    assert seen == [errno.EBADF]
    getpid()
    assert last_errno() == 0


def test_a_hook_does_not_change_errno() -> None:
    """The handle is closed by the call's own cleanup; errno is still the call's."""

    @library_import(NATIVE)
    def fail(error: c_int) -> c_int: ...

    class Failing(SafeHandle):
        def __init__(self) -> None:
            super().__init__(-1)
            self.set_handle(5)

        @property
        def is_invalid(self) -> bool:
            return self.handle == -1

        def release_handle(self) -> bool:
            fail(errno.EIO)
            return True

    @library_import(NATIVE)
    def fail_with(value: Failing, error: c_int, callback: Callback) -> c_int: ...

    handle = Failing()
    assert fail_with(handle, errno.ENOSPC, CALLBACK(handle.close)) == -1
    assert handle.is_closed
    assert last_errno() == errno.ENOSPC


def test_check_errno() -> None:
    @library_import(NATIVE, check_errno=True)
    def fail(error: c_int) -> c_int: ...

    @library_import(NATIVE, entry_point="fail", check_errno=True)
    def fail_to_open(error: c_int) -> SafeFileHandle: ...

    for call in (fail, fail_to_open):
        with pytest.raises(PermissionError) as caught:
            call(errno.EACCES)
        assert caught.value.errno == errno.EACCES


def test_a_native_function_cannot_be_made_of_nonsense() -> None:
    """The core checks what it is given: it has to trust it afterwards."""
    result = ("return", "void", "q", None, False, 0, ())
    for parameters in (
        (5,),
        (("a", "nonsense", "q", None, False, 0, ()),),
        (("a", "value", "z", None, False, 0, ()),),
        (("a", "handle", "q", int, False, 0, ()),),
        (("a", "handle", "q", None, False, 0, ()),),
        (("a", "struct", "q", None, False, 8, ()),),
        (("a", "struct", "q", int, False, 4, (("x", 0, "q", None),)),),
        (("a", "struct", "q", int, False, 8, (("x", 0, "q", int),)),),
        (("a", "struct", "q", int, False, 8, (5,)),),
    ):
        with pytest.raises((TypeError, ValueError)):
            NativeFunction("f", 1, parameters, result, (), False)  # type: ignore[arg-type]


def test_structures_check_their_values() -> None:
    class Pair(Structure):
        first: c_int
        second: c_uint = 2

    assert repr(Pair(1)) == "Pair(first=1, second=2)".replace("Pair", Pair.__name__)
    for args, names, text in (
        ((), {}, "'first' has no value"),
        ((1, 2, 3), {}, "2 fields, 3 values"),
        ((1,), {"first": 1}, "given twice"),
        ((1,), {"third": 1}, "unknown"),
    ):
        with pytest.raises(TypeError, match=text):
            Pair(*args, **names)
    with pytest.raises(TypeError, match="no fields"):

        class Empty(Structure):
            pass


def test_structures_inherit_fields() -> None:
    class Base(Structure):
        a: c_int

    class Derived(Base):
        b: c_size_t

    assert [field[:3] for field in Derived.__native_fields__] == [("a", 0, "i"), ("b", 8, "Q")]
    assert Derived.__native_size__ == 16


CHECKED = """
from safehandle_debug import SafeFileHandle
from safehandle_debug.marshal import ByRef, Out, Structure, c_int, extern, library_import

@library_import(None)
def open(path: bytes, flags: c_int) -> SafeFileHandle:
    extern()

class Request(Structure):
    file: SafeFileHandle
    count: c_int = 0

@library_import(None)
def send(request: ByRef[Request] | None, made: Out[SafeFileHandle]) -> c_int:
    extern()

file: SafeFileHandle = open(b"/dev/null", 0)
cell: Out[SafeFileHandle] = Out()
number: int = send(Request(file, 1), cell)
open("/dev/null", 0)  # E: arg-type
send(file, cell)  # E: arg-type
Request(5)  # E: arg-type
text: str = open(b"", flags=0)  # E: assignment
"""


def test_mypy_understands_declarations(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    file = tmp_path / "checked.py"
    file.write_text(CHECKED)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file="]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    expected = {
        (number, line.rpartition("# E: ")[2])
        for number, line in enumerate(CHECKED.splitlines(), 1)
        if "# E: " in line
    }
    found = {
        (int(line.split(":")[1]), line.rpartition("[")[2].rstrip("]"))
        for line in done.stdout.splitlines()
        if ": error: " in line
    }
    assert found == expected, done.stdout + done.stderr


def test_null_is_not_a_handle() -> None:
    with pytest.raises(NullHandleError):
        declared(SafeFileHandle)(None)
