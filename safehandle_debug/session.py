"""The session folder: where the recordings of one process tree lie.

    ROOT/                                  $SAFEHANDLE_DEBUG_DIR, else
      20260102T030405.678901-4711/         $XDG_RUNTIME_DIR/safehandle, else
        4711-9182736.shd                   safehandle-UID in the temp folder
        4711-9182736-2.shd
        4712-9182740.shd

A session is named by the UTC time and the pid that made it, so that names sort
by time; a recording by pid and start time in clock ticks (`-2`, `-3`... when
that process starts recording again, as it does after exec).  Whoever could
write into a folder could swap it for one of theirs, hence the checks: ours,
writable by nobody else, no symlink.

Writers and readers both go by it, so it lies below them; and as it is loaded
before the program's first line, it loads next to nothing itself.
"""

from __future__ import annotations

import os
import stat
import time

SESSION_VARIABLE = "SAFEHANDLE_DEBUG_SESSION"
ROOT_VARIABLE = "SAFEHANDLE_DEBUG_DIR"
SUFFIX = ".shd"

_O_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SessionError(Exception):
    """No session folder to be had; the text is one clause that says why."""


def sessions_root() -> str:
    """The absolute path of the folder that sessions are kept in; need not exist."""
    chosen = os.environ.get(ROOT_VARIABLE)
    if chosen:
        return os.path.abspath(chosen)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # After su or sudo the variable may still name another user's folder.
    if runtime and os.path.isabs(runtime) and folder_fault(runtime) is None:
        return os.path.join(runtime, "safehandle")
    return os.path.join(_temp_folder(), f"safehandle-{os.geteuid()}")


def create_session(root: str | None = None) -> str:
    """Makes a new session folder (and the root, if need be); returns its path.

    Raises:
        SessionError: a folder cannot be made, or is not safe to write into.
    """
    root = sessions_root() if root is None else root
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
    except OSError as error:
        raise SessionError(_cannot("make the folder", root, error)) from None
    fault = folder_fault(root)
    if fault is not None:
        raise SessionError(f"the folder {root} {fault}; set {ROOT_VARIABLE} to another")
    while True:
        session = os.path.join(root, session_name(time.time_ns(), os.getpid()))
        try:
            os.mkdir(session, 0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise SessionError(_cannot("make the folder", session, error)) from None
        return session


def is_session(path: str) -> bool:
    """True when `path` is a session folder that this user may write into."""
    if not os.path.isabs(path) or parse_session_name(os.path.basename(path)) is None:
        return False
    return folder_fault(path) is None


def folder_fault(path: str) -> str | None:
    """Why recordings must not be written below `path`, as a predicate; None if they may."""
    try:
        folder = os.open(path, _O_FOLDER)
    except OSError:
        try:
            mode = os.lstat(path).st_mode
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if stat.S_ISLNK(mode):
            return "is a symbolic link"
        return "cannot be read" if stat.S_ISDIR(mode) else "is not a folder"
    try:
        status = os.fstat(folder)
    finally:
        os.close(folder)
    if status.st_uid != os.geteuid():
        return f"belongs to another user (uid {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def session_name(realtime_ns: int, pid: int) -> str:
    """The name of a session made by `pid` at a wall-clock time in ns since 1970."""
    seconds, ns = divmod(realtime_ns, 10**9)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
    return f"{stamp}.{ns // 1000:06d}-{pid}"


def parse_session_name(name: str) -> int | None:
    """The pid in a session folder's name; None when it is not such a name."""
    stamp, dash, pid = name.partition("-")
    digits = stamp[:8] + stamp[9:15] + stamp[16:]
    if len(stamp) != 22 or stamp[8] != "T" or stamp[15] != "." or not dash:
        return None
    if not (digits + pid).isascii() or not digits.isdecimal() or not pid.isdecimal():
        return None
    return int(pid)


def parse_recording_name(name: str) -> tuple[int, int] | None:
    """(pid, start time in clock ticks) in a recording's name; None for others."""
    parts = parse_recording_parts(name)
    return None if parts is None else parts[:2]


def parse_recording_parts(name: str) -> tuple[int, int, int] | None:
    """The same with the number of the part, from 1."""
    if not name.endswith(SUFFIX) or not name.isascii():
        return None
    parts = name.removesuffix(SUFFIX).split("-")
    if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2]) if len(parts) == 3 else 1


def new_recording_path(session: str, pid: int, ticks: int) -> str:
    """A path in `session` that no recording of the process has yet."""
    number = 1
    while True:
        again = f"-{number}" if number > 1 else ""
        path = os.path.join(session, f"{pid}-{ticks}{again}{SUFFIX}")
        if not os.path.lexists(path):
            return path
        number += 1


def start_ticks(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # The second field is the program's name, which may hold anything.
            return int(file.read(4096).rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def _temp_folder() -> str:
    """What tempfile.gettempdir() finds, without loading it and a dozen modules more."""
    named = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    for folder in (*named, "/tmp", "/var/tmp", "/usr/tmp"):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    return "/tmp"


def _cannot(do: str, path: str, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"cannot {do} {path} ({reason}); set {ROOT_VARIABLE} to a folder of yours"
