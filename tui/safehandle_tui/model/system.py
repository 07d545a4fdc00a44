"""What the operating system says of a descriptor, at this moment."""

from __future__ import annotations

import os
from pathlib import Path

from safehandle_debug.ledger import History
from safehandle_tui.model.text import Line, clean

__all__ = ["system_lines"]

_FLAGS = {
    os.O_WRONLY: "O_WRONLY",
    os.O_RDWR: "O_RDWR",
    os.O_APPEND: "O_APPEND",
    os.O_NONBLOCK: "O_NONBLOCK",
    os.O_CLOEXEC: "O_CLOEXEC",
    os.O_DIRECTORY: "O_DIRECTORY",
}
_OTHERS = 50  # processes with the same file that are named


def system_lines(history: History, *, is_open: bool, others: bool = True) -> list[Line]:
    """What /proc tells; the process itself is not asked.

    Args:
        others: look through all processes for those that have it open too.
    """
    if history.space != "fd":
        return [((f"it is no descriptor: the system knows no {clean(history.space)}", "muted"),)]
    if not is_open:
        return [(("it is not open any more", "muted"),)]
    folder = Path(f"/proc/{history.pid}")
    try:
        target = os.readlink(folder / "fd" / str(history.value))
        info = (folder / "fdinfo" / str(history.value)).read_text()
    except OSError as error:
        return [((f"/proc/{history.pid}/fd/{history.value}: {error.strerror}", "warn"),)]
    facts = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    lines: list[Line] = [
        (("is        ", "muted"), (clean(target), "text")),
        (("flags     ", "muted"), (_flags(facts.get("flags", "0").strip()), "text")),
        (("position  ", "muted"), (facts.get("pos", "?").strip(), "text")),
    ]
    try:
        status = os.stat(folder / "fd" / str(history.value))
    except OSError:
        pass
    else:
        if status.st_nlink == 0:
            lines.append((("", "text"), ("its file has been deleted", "warn")))
        if not others:
            return lines
        lines.append((("inode     ", "muted"), (f"{status.st_ino}", "text")))
        names = _others(history.pid, (status.st_dev, status.st_ino))
        also = ", ".join(names) if names else "no other process that we may look into"
        lines.append((("also open ", "muted"), (also, "text")))
    return lines


def _flags(octal: str) -> str:
    try:
        bits = int(octal, 8)
    except ValueError:
        return octal
    names = [name for flag, name in _FLAGS.items() if bits & flag == flag]
    if not bits & os.O_ACCMODE:
        names.insert(0, "O_RDONLY")
    return " ".join(names)


def _others(pid: int, identity: tuple[int, int]) -> list[str]:
    """Other processes that have the same file open."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == pid:
            continue
        try:
            with os.scandir(folder / "fd") as entries:
                for entry in entries:
                    status = entry.stat()
                    if (status.st_dev, status.st_ino) == identity:
                        found.append(f"{folder.name} (fd {entry.name})")
                        break
        except OSError:
            continue
        if len(found) == _OTHERS:
            break
    return found
