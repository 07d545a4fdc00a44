"""What SAFEHANDLE_DEBUG may say: `LEVEL[,NAME=VALUE]...`.

    off | sampled | full | 1      1 means full
    frames=32                     frames a stack keeps
    sample=100                    at `sampled`: one handle in so many
    fds=on|off                    watch descriptors and children of all code
    quarantine=256                closed descriptor numbers to keep unused; 0: none
    arm=0                         descriptors open before stacks are taken
    children=on|off               record the processes that it starts too
    size=256M                     bound of one recording; K, M, G are powers of 1024
    on_error=record|warn|raise|abort
    suppressions=FILE             findings not to report; relative to the working directory
    tracemalloc=on|off            mirror handles into tracemalloc when it runs
    ask=on|off                    answer a viewer who asks who holds the handles

The level comes first; of an option given twice the last one stands.  Values
cannot hold a comma.
"""

from __future__ import annotations

LEVELS = ("off", "sampled", "full", "1")
OPTIONS = (
    "frames=32",
    "sample=100",
    "fds=on|off",
    "quarantine=256",
    "arm=0",
    "children=on|off",
    "size=256M",
    "on_error=record|warn|raise|abort",
    "suppressions=FILE",
    "tracemalloc=on|off",
    "ask=on|off",
)
# Whether descriptors are watched when neither word asks for it or forbids it.
FDS = True

ON_ERROR = ("record", "warn", "raise", "abort")

_SIZE_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_FRAMES = (1, 1000)
_SAMPLE = (1, 10**9)
_QUARANTINE = (0, 10**6)
_ARM = (0, 10**6)
_SIZE = (2**20, 2**35)  # ids in a recording are 32 bits, of 8 bytes each


class OptionError(ValueError):
    """The text is not of the form above; says which word and what is accepted."""


class Options:
    """A parsed SAFEHANDLE_DEBUG.

    A plain class: `dataclasses` and `typing` would cost every watched start-up
    more than the rest of the hook.
    """

    __slots__ = (
        "arm",
        "ask",
        "children",
        "fds",
        "frames",
        "level",
        "on_error",
        "quarantine",
        "sample",
        "size",
        "suppressions",
        "tracemalloc",
    )

    def __init__(self, level: str) -> None:
        self.level = level  # "off", "sampled" or "full"
        self.frames = 32
        self.sample = 100
        self.fds = FDS
        self.quarantine = 256
        self.arm = 0
        self.children = True
        self.size = 256 * 2**20  # bytes
        self.on_error = "record"
        self.suppressions: str | None = None  # a path as given
        self.tracemalloc = False
        self.ask = True


def accepted() -> str:
    """The accepted words, for the end of an error message."""
    return f"use {', '.join(LEVELS[:-1])} or {LEVELS[-1]}, then any of {', '.join(OPTIONS)}"


def parse(text: str) -> Options:
    """Reads the value of SAFEHANDLE_DEBUG; the empty text means `off`.

    Raises:
        OptionError: a word is unknown or a value is out of its range.
    """
    level, *words = [word.strip() for word in text.split(",")]
    if level not in LEVELS and (level or any(words)):
        raise OptionError(f"unknown level '{level}': {accepted()}")
    options = Options({"1": "full", "": "off"}.get(level, level))
    for word in words:
        if word:
            _set(options, word)
    return options


def _set(options: Options, word: str) -> None:
    name, equals, value = (part.strip() for part in word.partition("="))
    if name == "frames" and equals:
        options.frames = _number(name, value, *_FRAMES)
    elif name == "sample" and equals:
        options.sample = _number(name, value, *_SAMPLE)
    elif name == "fds" and equals:
        options.fds = _switch(name, value)
    elif name == "quarantine" and equals:
        options.quarantine = _number(name, value, *_QUARANTINE)
    elif name == "arm" and equals:
        options.arm = _number(name, value, *_ARM)
    elif name == "children" and equals:
        options.children = _switch(name, value)
    elif name == "size" and equals:
        options.size = _size(value)
    elif name == "on_error" and equals:
        if value not in ON_ERROR:
            raise OptionError(f"on_error={value}: use one of {', '.join(ON_ERROR)}")
        options.on_error = value
    elif name == "suppressions" and equals:
        if not value:
            raise OptionError("suppressions=: give the path of a file")
        options.suppressions = value
    elif name == "tracemalloc" and equals:
        options.tracemalloc = _switch(name, value)
    elif name == "ask" and equals:
        options.ask = _switch(name, value)
    else:
        raise OptionError(f"unknown word '{word}': {accepted()}")


def _switch(name: str, value: str) -> bool:
    if value not in ("on", "off"):
        raise OptionError(f"{name}={value}: use on or off")
    return value == "on"


def _number(name: str, value: str, least: int, most: int) -> int:
    # isdecimal() alone lets in digits of other scripts, which int() reads too.
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else -1
    if not least <= number <= most:
        raise OptionError(f"{name}={value}: use a whole number from {least} to {most}")
    return number


def _size(value: str) -> int:
    digits, unit = value, 1
    if value[-1:].upper() in _SIZE_UNITS:
        digits, unit = value[:-1], _SIZE_UNITS[value[-1].upper()]
    number = -1
    if digits.isascii() and digits.isdecimal() and len(digits) < 20:
        number = int(digits) * unit
    least, most = _SIZE
    if not least <= number <= most:
        raise OptionError(
            f"size={value}: use a number of bytes from {least // 2**20}M to {most // 2**30}G,"
            " with K, M or G"
        )
    return number
