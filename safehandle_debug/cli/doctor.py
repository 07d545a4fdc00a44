"""`safehandle doctor`: does recording work here, and if not, why."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import click

from safehandle_debug.activate.options import OptionError, parse
from safehandle_debug.cli import abilities
from safehandle_debug.cli.abilities import Check
from safehandle_debug.cli.output import wants_color
from safehandle_debug.cli.progress import progress
from safehandle_debug.session import folder_fault, parse_recording_name, sessions_root

_FOUND = 1
_HOOK = "safehandle_debug.pth"
_ROOM = 64 * 2**20  # bytes free that a recording should find
_PROBE_S = 60
_SHOWN = 6  # functions of another tool


@click.command()
@click.option("--no-color", is_flag=True, help="plain text on a terminal too")
@click.pass_context
def doctor(context: click.Context, no_color: bool) -> None:
    """Says whether programs of this environment can be recorded."""
    color = wants_color(no_color)
    good = True
    for check in checks():
        mark = "ok" if check.good else "bad"
        if color:
            mark = click.style(mark, fg="green" if check.good else "red", bold=True)
        click.echo(f"{mark:>3}  {check.name}: {check.text}", color=color)
        good = good and check.good
    click.echo("Recording works here." if good else "Recording does not work here as it should.")
    if not good:
        context.exit(_FOUND)


def checks() -> Iterator[Check]:
    """All checks, in the order in which one depends on another."""
    for check in (
        _python,
        _core,
        _hook,
        _variable,
        _folder,
        _room,
        _proc,
        abilities.kernel,
        abilities.limits,
        abilities.neighbours,
        _probe,
        _interposition,
        _screen,
        abilities.terminal,
        abilities.extras,
    ):
        with progress("looking"):
            found = check()
        yield found


def _python() -> Check:
    abi = sysconfig.get_config_var("SOABI") or "?"
    name = (
        f"{platform.python_implementation()} {platform.python_version()} ({abi}), {sys.executable}"
    )
    good = platform.python_implementation() == "CPython" and sys.version_info >= (3, 11)
    return Check("python", good, name if good else f"{name}; CPython 3.11 or newer is needed")


def _core() -> Check:
    try:
        from safehandle_debug import _native
    except ImportError as error:
        return Check("core", False, f"{error}; install safehandle-debug for this Python again")
    source = _native.stack_source()
    slower = "" if source == "frames" else " (slower: this Python's frames are not known)"
    version = _version("safehandle-debug") or "(not installed)"
    return Check("core", True, f"safehandle-debug {version}, stacks walked by {source}{slower}")


def _hook() -> Check:
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    for folder in sorted({*folders, *sys.path}):
        if folder and Path(folder, _HOOK).is_file():
            return Check("start-up hook", True, str(Path(folder, _HOOK)))
    return Check("start-up hook", False, f"no {_HOOK} in this environment; install it again")


def _variable() -> Check:
    text = os.environ.get("SAFEHANDLE_DEBUG", "")
    try:
        parse(text)
    except OptionError as error:
        return Check("SAFEHANDLE_DEBUG", False, str(error))
    return Check("SAFEHANDLE_DEBUG", True, text or "not set")


def _folder() -> Check:
    root = sessions_root()
    if not os.path.lexists(root):
        parent = Path(root).parent
        while not parent.exists():
            parent = parent.parent
        good = os.access(parent, os.W_OK | os.X_OK)
        return Check(
            "sessions",
            good,
            f"{root} (made when needed)" if good else f"{root} cannot be made in {parent}",
        )
    fault = folder_fault(root)
    if fault is None and not os.access(root, os.W_OK | os.X_OK):
        fault = "cannot be written"
    if fault is None:
        return Check("sessions", True, root)
    return Check("sessions", False, f"{root} {fault}; set SAFEHANDLE_DEBUG_DIR to another")


def _room() -> Check:
    folder = Path(sessions_root())
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free // 2**20} MiB free at {folder}"
    if free >= _ROOM:
        return Check("disk", True, text)
    return Check("disk", False, f"{text}; free some, or set SAFEHANDLE_DEBUG_DIR")


def _proc() -> Check:
    try:
        Path("/proc/self/stat").read_bytes()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        return Check("/proc", False, f"{error.filename}: {error.strerror}; it must be mounted")
    return Check("/proc", True, f"Linux {platform.release()}, boot {boot}")


def _probe() -> Check:
    """A program of this environment, watched by nothing but the variable."""
    program = "import safehandle_debug as s; s.SafeFileHandle.open('/dev/null').close()"
    name = "a program under watch"
    done, recordings = _watched(program, "full")
    if isinstance(done, str):
        return Check(name, False, done)
    said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if done.returncode != 0:
        return Check(name, False, f"ended with {done.returncode}: {said}")
    if not recordings:
        return Check(name, False, f"recorded nothing: {said}")
    return Check(name, True, "was recorded")


def _watched(program: str, value: str) -> tuple[subprocess.CompletedProcess[str] | str, int]:
    """(how a program ended, or why it could not be run; recordings it left)."""
    with tempfile.TemporaryDirectory(prefix="safehandle-doctor-") as folder:
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("SAFEHANDLE_DEBUG")
        }
        environment |= {"SAFEHANDLE_DEBUG": value, "SAFEHANDLE_DEBUG_DIR": folder}
        try:
            done = subprocess.run(
                [sys.executable, "-c", program],
                env=environment,
                capture_output=True,
                text=True,
                timeout=_PROBE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error), 0
        files = Path(folder).glob("*/*")
        return done, sum(parse_recording_name(path.name) is not None for path in files)


def _interposition() -> Check:
    """Descriptors of code that knows nothing of SafeHandle, seen in a program."""
    name = "descriptors"
    program = (
        "import os\n"
        "from safehandle_debug import _native as n\n"
        "before = n.newest_serial()\n"
        "def main():\n"
        "    os.close(os.open('/dev/null', os.O_RDONLY))\n"
        "main()\n"
        "status = n.watch_status()\n"
        "print(n.newest_serial() - before, status.get('slots', 0))\n"
        "for function, tool in status.get('others', ()):\n"
        "    print(tool or '(unknown)', function)"
    )
    done, _ = _watched(program, "full,fds=on")
    if isinstance(done, str):
        return Check(name, False, done)
    first, *others = done.stdout.splitlines() or [""]
    words = first.split()
    if done.returncode != 0 or len(words) != 2:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Check(name, False, f"cannot be watched: {said}")
    if words[0] == "0":
        return Check(name, False, "what a program opens is not seen; SafeHandles alone are")
    text = f"os.open was seen, {words[1]} places of libc calls interposed"
    return Check(name, True, "; ".join([text, *_before_libc(others)]))


def _before_libc(lines: Iterable[str]) -> Iterator[str]:
    """Other tools that have functions of the watch's, one clause for each."""
    functions: dict[str, list[str]] = {}
    for line in lines:
        tool, _, function = line.rpartition(" ")
        functions.setdefault(tool, []).append(function)
    for tool, names in functions.items():
        shown = ", ".join(names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield f"{tool} comes before libc with {shown}{more}"


def _screen() -> Check:
    version = _version("textual")
    if version is None:
        return Check("screen", True, "textual is not installed: 'safehandle watch' needs it")
    return Check("screen", True, f"textual {version}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
