"""A native library for the tests of calls, compiled when first asked for.

Every function counts that it was entered and notes what it saw, so that a test
can tell a call that was refused from one that was made.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import pytest

from safehandle_debug import _native

__all__ = [
    "CALLBACK",
    "SOURCE",
    "Callback",
    "compile_c",
    "entered",
    "native_library",
    "python_include",
    "saw",
]

CALLBACK = ctypes.CFUNCTYPE(None)
Callback: TypeAlias = Annotated[Any, CALLBACK]

SOURCE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <unistd.h>
#include <fcntl.h>

long entered_count;
intptr_t seen[8];

typedef void (*callback)(void);

#define ENTER(value) (entered_count++, seen[0] = (intptr_t)(value))
#define CALL(cb) do { if (cb) (cb)(); } while (0)

intptr_t echo(intptr_t value) { ENTER(value); return value; }
int echo_int(int value) { ENTER(value); return value; }
intptr_t during(intptr_t value, callback cb) { ENTER(value); CALL(cb); return value; }
intptr_t during_two(intptr_t a, intptr_t b, callback cb)
{ ENTER(a); seen[1] = b; CALL(cb); return a + b; }
int two_and_small(intptr_t a, intptr_t b, signed char c) { ENTER(a); seen[1] = b; return c; }
intptr_t make(intptr_t value, callback cb) { ENTER(value); CALL(cb); return value; }
int make_null_fd(void) { ENTER(0); return open("/dev/null", O_RDWR | O_CLOEXEC); }
int fail(int error) { ENTER(error); errno = error; return -1; }
int fail_with(intptr_t value, int error, callback cb)
{ ENTER(value); CALL(cb); errno = error; return -1; }

void put(intptr_t *slot, intptr_t value, callback cb)
{ ENTER(*slot); CALL(cb); *slot = value; }
void put_nothing(intptr_t *slot, callback cb) { ENTER(*slot); CALL(cb); }
int put_two(int *slots, int a, int b, int answer)
{ ENTER(slots[0]); seen[1] = slots[1]; if (answer == 0) { slots[0] = a; slots[1] = b; }
  return answer; }
void put_number(int *slot, int value) { ENTER(*slot); *slot = value; }

struct request { int32_t number; intptr_t handle; };
struct two { intptr_t first, second; int32_t number; };
struct mixed { double weight; int32_t fd; float part; };
struct point { float x, y; double z; };

intptr_t struct_value(struct request r, callback cb)
{ ENTER(r.handle); seen[1] = r.number; CALL(cb); return r.handle + r.number; }
intptr_t struct_two(intptr_t before, struct two t, intptr_t after, callback cb)
{ ENTER(t.first); seen[1] = t.second; CALL(cb);
  return before * 1000000 + t.first * 10000 + t.second * 100 + t.number * 10 + after; }
double struct_mixed(struct mixed m) { ENTER(m.fd); return m.weight + m.fd + m.part; }
double struct_point(double a, struct point p, float b)
{ return a * 1000 + p.x * 100 + p.y * 10 + p.z + b / 10; }
intptr_t struct_reference(struct request *r, int number, intptr_t handle, callback cb)
{ entered_count++; if (!r) { seen[0] = 0; return -1; }
  seen[0] = r->handle; seen[1] = r->number; CALL(cb);
  r->number = number; r->handle = handle; return 0; }
void struct_and_out(struct request *r, intptr_t replaced, intptr_t *slot, intptr_t made)
{ ENTER(r->handle); r->handle = replaced; *slot = made; }

double sum_of_many(int a, double b, long c, float d, short e, double f, long g, long h, long i,
                   long j, int k, double l, float m, double n, float o)
{ return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j + 11 * k
         + 12 * l + 13 * m + 14 * n + 15 * o; }
double nine_doubles(double a, double b, double c, double d, double e, double f, double g,
                    double h, double i, float j)
{ return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j; }
intptr_t late_struct(long a, long b, long c, long d, long e, struct request r, long f)
{ return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 100 * r.number + 1000 * r.handle; }
unsigned char narrow_unsigned(void) { return 255; }
signed char narrow_signed(void) { return -1; }
unsigned long wide_unsigned(void) { return ~0ul; }
_Bool truth(int value) { return value != 0; }
const char *text(int which) { return which ? "some text" : 0; }
void *address(intptr_t value) { return (void *)value; }
"""


def compile_c(source: str, target: Path, *arguments: str) -> Path:
    """Compiles a shared library; skips the test where there is no compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed", allow_module_level=True)
    file = target.with_suffix(".c")
    file.write_text(source)
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wno-unused-variable"]
    command = [compiler, *flags, str(file), "-o", str(target), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def python_include() -> str:
    """The compiler's option for Python.h; skips the test where it is not installed."""
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        pytest.skip("Python's headers are not installed", allow_module_level=True)
    return f"-I{include}"


@functools.cache
def native_library() -> str:
    """Path of the compiled library."""
    folder = Path(tempfile.mkdtemp(prefix="safehandle-native-"))
    return str(compile_c(SOURCE, folder / "native.so"))


@functools.cache
def _seen() -> tuple[ctypes.c_long, ctypes.Array[ctypes.c_ssize_t]]:
    at: Callable[[str], int] = functools.partial(_native.native_address, native_library())
    count = ctypes.c_long.from_address(at("entered_count"))
    return count, (ctypes.c_ssize_t * 8).from_address(at("seen"))


def entered() -> int:
    """How often native code was entered so far."""
    return _seen()[0].value


def saw(which: int = 0) -> int:
    """What the last native function saw."""
    return _seen()[1][which]
