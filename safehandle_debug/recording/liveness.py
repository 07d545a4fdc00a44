"""Whether the process that writes a recording still exists."""

from __future__ import annotations

_START_TICKS = 22 - 3  # field 22, counted from the one after the command's name


def boot_id() -> str:
    """Tells this boot of the machine from all others; "" when not known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (field 22 of
    /proc/PID/stat); None when there is no such process or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) <= _START_TICKS or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[_START_TICKS])


def is_alive(pid: int, started: int, boot: str) -> bool:
    """True while process `pid` that started at tick `started` exists.

    A process number alone is not enough: numbers are used again."""
    return boot == boot_id() and start_ticks(pid) == started
