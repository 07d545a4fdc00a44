"""What a native call with a handle costs, beside ctypes, cffi and Mono, in one run.

    python benchmarks/calls.py [--json]

The native function does nothing (`abs` of an int), so that only the way there
is measured.  Each row is a ratio to the same ctypes call with a plain int, and
says its budget.  Exit code 1 when a row is over its budget.  Mono's own calls
(`Calls.cs`) are measured where `mcs` and `mono` are installed.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measure import Operation, best_ns
from table import Row, show

from safehandle_debug import SafeFileHandle
from safehandle_debug.marshal import c_int, extern, library_import

cffi: Any = importlib.import_module("cffi") if importlib.util.find_spec("cffi") else None

BASE = "ctypes, int"


BUDGETS = {"NativeFunction, handle": 1.3}


@library_import(None, entry_point="abs")
def with_handle(file: SafeFileHandle) -> c_int:
    extern()


@library_import(None, entry_point="abs")
def with_int(number: c_int) -> c_int:
    extern()


@library_import(None, entry_point="toupper")  # of -1 it is -1: nothing to close
def returning(number: c_int) -> SafeFileHandle:
    extern()


def of_ctypes(*argtypes: Any) -> Any:
    """`abs`, with argument types of its own."""
    function = ctypes.CDLL(None).abs
    function.argtypes = argtypes
    function.restype = ctypes.c_int
    return function


def operations(file: SafeFileHandle) -> dict[str, Operation]:
    """Every way to call, by name."""
    number = file.fileno()
    plain, typed = of_ctypes(ctypes.c_int), of_ctypes(SafeFileHandle)
    found = {
        BASE: Operation("f(n)", {"f": plain, "n": number}),
        "ctypes, handle in argtypes": Operation("f(h)", {"f": typed, "h": file}),
        "ctypes, `with handle.hold()`": Operation(
            "with h.hold() as n: f(n)", {"f": plain, "h": file}
        ),
        "NativeFunction, int": Operation("f(n)", {"f": with_int, "n": number}),
        "NativeFunction, handle": Operation("f(h)", {"f": with_handle, "h": file}),
        "NativeFunction, handle returned (-1)": Operation("f(-1)", {"f": returning}),
    }
    if cffi is not None:
        ffi = cffi.FFI()
        ffi.cdef("int abs(int);")
        library = ffi.dlopen(None)
        found["cffi in ABI mode, int"] = Operation("f(n)", {"f": library.abs, "n": number})
        found["cffi, `with handle.hold()`"] = Operation(
            "with h.hold() as n: f(n)", {"f": library.abs, "h": file}
        )
    return found


def of_mono() -> dict[str, float]:
    """Mono's calls in ns; nothing where it is not installed."""
    compiler, runtime = shutil.which("mcs"), shutil.which("mono")
    if compiler is None or runtime is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="safehandle-benchmark-") as folder:
        program = Path(folder, "Calls.exe")
        source = Path(__file__).with_name("Calls.cs")
        subprocess.run([compiler, f"-out:{program}", str(source)], check=True)
        done = subprocess.run([runtime, str(program)], stdout=subprocess.PIPE, check=True)
    plain, held = map(float, done.stdout.split())
    return {"Mono P/Invoke, int": plain, "Mono P/Invoke, SafeHandle": held}


def measure() -> Iterator[Row]:
    """Times all operations in turns."""
    with SafeFileHandle.open(os.devnull, os.O_RDONLY) as file:
        best = best_ns(operations(file), rounds=600)
    best |= of_mono()
    base = best.pop(BASE)
    for what, ns in best.items():
        yield Row(what, ns / base, "x", BUDGETS.get(what), f"{ns:.1f} ns", f"{BASE} {base:.1f} ns")


if __name__ == "__main__":
    sys.exit(show(measure(), __doc__.splitlines()[0]))
