"""What the start-up hook calls: records this process as SAFEHANDLE_DEBUG says.

Runs inside `site`, before the program.  It never raises and never prints more
than one line for one fault; whatever goes wrong, the program runs on as if it
were not there.  It leaves sys.argv, sys.path, signal handlers and threads
alone, and starts no thread.
"""

from __future__ import annotations

import atexit
import os
import sys

from safehandle_debug import _native
from safehandle_debug.activate.options import OptionError, Options, parse
from safehandle_debug.activate.prune import prune
from safehandle_debug.activate.stderr import say
from safehandle_debug.session import (
    SESSION_VARIABLE,
    SessionError,
    create_session,
    is_session,
    new_recording_path,
    parse_recording_name,
    start_ticks,
)

VARIABLE = "SAFEHANDLE_DEBUG"

_AT_SECURE = 23  # <elf.h>


def start() -> None:
    """Starts recording if the environment asks for it; faults are one line on stderr."""
    text = os.environ.get(VARIABLE, "")
    if not text or sys.flags.ignore_environment or _is_set_id() or _is_viewer():
        return
    # A second hook in the same environment, or a second interpreter in the process.
    if _native.recording_path() is not None:
        return
    try:
        options = parse(text)
    except OptionError as error:
        say(f"{VARIABLE}: {error}; the program runs on unwatched")
        return
    if options.level != "off":
        _record(options)


def _record(options: Options) -> None:
    pid = os.getpid()
    ticks = start_ticks(pid)
    if ticks is None:
        say(f"/proc/{pid}/stat cannot be read; the program runs on unwatched")
        return
    inherited = os.environ.get(SESSION_VARIABLE, "")
    joining = bool(inherited) and is_session(inherited)
    if joining and not options.children and _records_another(inherited, pid, ticks):
        return
    suppressions = _readable(options.suppressions)
    session = inherited
    try:
        if not joining:
            session = create_session()
        _native.start_recording(
            new_recording_path(session, pid, ticks),
            level=options.level,
            frames=options.frames,
            sample=options.sample,
            size=options.size,
            meta=_meta(session, suppressions, ask=options.ask),
            children=options.children,
            on_error=options.on_error,
            tracemalloc=options.tracemalloc,
        )
    except (SessionError, OSError, ValueError, RuntimeError) as error:
        say(f"{error}; the program runs on unwatched")
        if session and not joining:
            _remove_if_empty(session)
        return
    os.environ[SESSION_VARIABLE] = session
    # Registered before the program runs: called after its own exit functions,
    # and after the watch's, which may have something to raise.
    atexit.register(_tell_holders)
    if options.fds:
        _watch(options)
    if not joining:
        prune(os.path.dirname(session))


def _watch(options: Options) -> None:
    """Watches descriptors too, where that can be done; SafeHandles are recorded anyway."""
    if not hasattr(_native, "watch_start"):
        say("descriptors cannot be watched on this platform; only SafeHandles are recorded")
        return
    from safehandle_debug.activate import alarm

    alarm.on_error = options.on_error
    try:
        _native.watch_start(options.quarantine, options.arm)
    except (OSError, RuntimeError) as error:
        say(f"{error}; only SafeHandles are recorded")
        return
    # Registered before the program's own, so it runs after them.
    atexit.register(_native.watch_reconcile)


def _tell_holders() -> None:
    """Leaves word who holds what is still open; only then is anything loaded."""
    if _native.recording_path() is None or not _native.open_since(0):
        return
    if issubclass(getattr(sys, "last_type", None) or object, KeyboardInterrupt):
        # The process is to die of SIGINT, and CPython forgets that as soon as a
        # string is executed, as many modules do when they are imported.
        return
    import gc

    was_enabled = gc.isenabled()
    gc.disable()  # or what we load decides when the program's garbage goes
    try:
        from safehandle_debug.findings.holders.told import write_holders

        write_holders()
    except (Exception, KeyboardInterrupt):
        return  # the program's end is not ours to disturb
    finally:
        if was_enabled:
            gc.enable()


def _records_another(session: str, pid: int, ticks: int) -> bool:
    """True when a process other than this one records into `session`.

    With `children=off` the first process of a session is the only one.
    """
    try:
        names = os.listdir(session)
    except OSError:
        return False
    return bool({parse_recording_name(name) for name in names} - {None, (pid, ticks)})


def _meta(session: str, suppressions: str | None, *, ask: bool) -> str:
    """JSON that says whose recording this is.

    sys.argv is not final yet, so argv is the whole command line.
    """
    argv = ", ".join(_quote(argument) for argument in sys.orig_argv)
    version = ".".join(str(part) for part in sys.version_info[:3])
    try:
        cwd = os.getcwd()
    except OSError:
        cwd = ""  # it was deleted
    fields = {
        "argv": f"[{argv}]",
        "executable": _quote(sys.executable or ""),
        "cwd": _quote(cwd),
        "python": _quote(version),
        "session": _quote(session),
        "suppressions": "null" if suppressions is None else _quote(suppressions),
        "ask": "true" if ask else "false",
    }
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


def _quote(text: str) -> str:
    r"""A JSON string in ASCII, without loading `json`; undecodable bytes stay as \udcXX."""
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if char in '"\\':
        return "\\" + char
    if 0x20 <= code < 0x7F:
        return char
    if code > 0xFFFF:
        high, low = divmod(code - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
    return f"\\u{code:04x}"


def _readable(suppressions: str | None) -> str | None:
    """The absolute path of a suppressions file, or None (and a line) if it cannot be read."""
    if suppressions is None:
        return None
    path = os.path.abspath(suppressions)
    if os.path.isfile(path) and os.access(path, os.R_OK):
        return path
    say(f"the suppressions file {path} cannot be read; recording goes on without it")
    return None


def _remove_if_empty(session: str) -> None:
    try:
        os.rmdir(session)
    except OSError:
        return  # the core left a recording that says what went wrong


def _is_set_id() -> bool:
    """True when the process has rights that its starter may not have.

    The kernel's own word for it is in the auxiliary vector; a vector that may
    not be read belongs to a process whose memory is protected, as theirs is.
    """
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return True
    try:
        with open("/proc/self/auxv", "rb", buffering=0) as file:
            vector = file.read(4096)
    except PermissionError:
        return True
    except OSError:
        return False
    word = 8 if sys.maxsize > 2**32 else 4
    pairs = range(0, len(vector) - 2 * word + 1, 2 * word)
    numbers = {
        int.from_bytes(vector[at : at + word], sys.byteorder): int.from_bytes(
            vector[at + word : at + 2 * word], sys.byteorder
        )
        for at in pairs
    }
    return bool(numbers.get(_AT_SECURE))


def _is_viewer() -> bool:
    """True in our own commands: they must not become the newest session themselves."""
    if not sys.argv:
        return False
    if sys.argv[0] != "-m":
        return os.path.basename(sys.argv[0]) == "safehandle"
    # `-m` and the module may be one word, with other options before the m.
    word = sys.orig_argv[len(sys.orig_argv) - len(sys.argv)]
    return word == "safehandle_debug" or (word[:1] == "-" and word.endswith("msafehandle_debug"))
