"""What `safehandle doctor` asks of the kernel, the limits, and the neighbours."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import platform
import resource
import shutil
import sys
from dataclasses import dataclass

__all__ = ["Check", "extras", "kernel", "limits", "neighbours", "terminal"]

_F_SETSIG = 10
_F_DUPFD_QUERY = 1027  # Linux 6.10
_FEW = 256  # descriptors
_SMALL = 16 * 2**20  # bytes of a file
# Distributions that replace what opens and closes, and what that means.
_PATCHERS = {
    "gevent": "its monkey patch replaces socket and os functions: owners are its own classes",
    "eventlet": "its monkey patch replaces socket and os functions: owners are its own classes",
    "memray": "while it tracks, what it replaces (mmap, dlopen) is left to it",
    "pyfakefs": "files that it fakes have no descriptors",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    good: bool
    text: str  # what was found; what to do when it is not good


def kernel() -> Check:
    """The calls that tell descriptors apart; none of them is indispensable."""
    found = []
    descriptor = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for name, number, argument in (
            ("F_SETSIG", _F_SETSIG, 0),
            ("F_DUPFD_QUERY", _F_DUPFD_QUERY, descriptor),
        ):
            try:
                fcntl.fcntl(descriptor, number, argument)
            except OSError as error:
                why = errno.errorcode.get(error.errno or 0, "?")
                newer = ", it came with Linux 6.10" if number == _F_DUPFD_QUERY else ""
                found.append(f"no {name} ({why}{newer})")
            else:
                found.append(name)
    finally:
        os.close(descriptor)
    return Check("kernel", True, f"{platform.system()} {platform.release()}: {', '.join(found)}")


def limits() -> Check:
    """Limits of this shell, which programs started in it inherit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    size, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    core, _ = resource.getrlimit(resource.RLIMIT_AS)
    text = f"{_shown(soft)} descriptors, at most {_shown(hard)}"
    if size != resource.RLIM_INFINITY:
        text += f", files of {_shown(size)} bytes"
    if core != resource.RLIM_INFINITY:
        text += f", {_shown(core)} bytes of memory"
    if soft != resource.RLIM_INFINITY and soft < _FEW:
        return Check("limits", False, f"{text}; raise the first: ulimit -n 1024")
    if size != resource.RLIM_INFINITY and size < _SMALL:
        return Check("limits", False, f"{text}; no recording has room: ulimit -f unlimited")
    return Check("limits", True, text)


def _shown(limit: int) -> str:
    return "any number of" if limit == resource.RLIM_INFINITY else f"{limit:,}"


def neighbours() -> Check:
    """Other tools that put themselves between a program and libc or Python."""
    found = []
    if preload := os.environ.get("LD_PRELOAD"):
        found.append(f"LD_PRELOAD={preload} comes before libc")
    found += [
        f"{name} is installed: {what}"
        for name, what in _PATCHERS.items()
        if importlib.util.find_spec(name) is not None
    ]
    return Check("neighbours", True, "; ".join(found) or "none that replaces the same functions")


def extras() -> Check:
    """Optional programs, and what needs them."""
    wanted = {
        "objgraph": ("holders", "pictures of what refers to a handle"),
        "pyarrow": ("export", "tables as Parquet"),
    }
    here, missing = [], []
    for module, (extra, purpose) in wanted.items():
        if importlib.util.find_spec(module) is not None:
            here.append(module)
        else:
            missing.append(f"for {purpose}: pip install 'safehandle-debug[{extra}]'")
    if shutil.which("dot"):
        here.append("graphviz")
    else:
        missing.append("for chains as SVG: install graphviz")
    text = "; ".join([", ".join(here) or "none", *missing])
    return Check("extras", True, text)


def terminal() -> Check:
    """What the screen can show where it is called."""
    if sys.stdout is None or not sys.stdout.isatty():
        return Check("terminal", True, "none: reports are plain text")
    columns, lines = shutil.get_terminal_size()
    colors = "24-bit colours" if os.environ.get("COLORTERM") else "its own colours"
    if os.environ.get("NO_COLOR"):
        colors = "no colours (NO_COLOR)"
    name = os.environ.get("TERM") or "?"
    text = f"{name}, {columns}x{lines}, {colors}, {sys.stdout.encoding}"
    if name == "dumb":
        return Check("terminal", True, f"{text}; 'safehandle watch' needs another TERM")
    if "utf" not in (sys.stdout.encoding or "").lower():
        return Check("terminal", False, f"{text}; set LANG=C.UTF-8")
    return Check("terminal", True, text)
