"""The words of SAFEHANDLE_DEBUG."""

from __future__ import annotations

import pytest

from safehandle_debug.activate.options import FDS, LEVELS, OPTIONS, OptionError, Options, parse


def shown(options: Options) -> dict[str, object]:
    return {name: getattr(options, name) for name in Options.__slots__}


DEFAULTS = {
    "arm": 0,
    "ask": True,
    "children": True,
    "fds": FDS,
    "frames": 32,
    "on_error": "record",
    "quarantine": 256,
    "sample": 100,
    "size": 256 * 2**20,
    "suppressions": None,
    "tracemalloc": False,
}


@pytest.mark.parametrize(
    ("text", "level"),
    [("off", "off"), ("sampled", "sampled"), ("full", "full"), ("1", "full"), ("", "off")],
)
def test_a_level_alone_leaves_all_options_at_their_defaults(text: str, level: str) -> None:
    assert shown(parse(text)) == DEFAULTS | {"level": level}


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("frames=1", "frames", 1),
        ("frames=1000", "frames", 1000),
        ("sample=7", "sample", 7),
        ("fds=on", "fds", True),
        ("fds=off", "fds", False),
        ("quarantine=0", "quarantine", 0),
        ("arm=500", "arm", 500),
        ("children=off", "children", False),
        ("size=1M", "size", 2**20),
        ("size=4096K", "size", 2**22),
        ("size=2G", "size", 2**31),
        ("size=2g", "size", 2**31),
        ("size=1048577", "size", 2**20 + 1),
        ("on_error=record", "on_error", "record"),
        ("on_error=warn", "on_error", "warn"),
        ("on_error=raise", "on_error", "raise"),
        ("on_error=abort", "on_error", "abort"),
        ("suppressions=a/b=c.txt", "suppressions", "a/b=c.txt"),
        ("tracemalloc=on", "tracemalloc", True),
        ("ask=off", "ask", False),
    ],
)
def test_an_option_changes_itself_only(word: str, name: str, value: object) -> None:
    assert shown(parse(f"full,{word}")) == DEFAULTS | {"level": "full", name: value}


def test_the_last_of_two_options_stands_and_blanks_do_not_matter() -> None:
    options = parse(" sampled , frames = 3, frames=4,, tracemalloc=on , ")

    assert (options.level, options.frames, options.tracemalloc) == ("sampled", 4, True)


@pytest.mark.parametrize(
    "text",
    [
        *("ful", "FULL", "2", "on", "frames=3", ",full", "full frames=3"),
        *("full,full", "full,frames", "full,frame=3", "full,=3", "full,fds"),
    ],
)
def test_an_unknown_word_is_answered_with_all_that_are_known(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(text)

    assert "\n" not in str(caught.value)
    for word in (*LEVELS, *OPTIONS):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("frames=0", "from 1 to 1000"),
        ("frames=", "from 1 to 1000"),
        ("frames=-3", "from 1 to 1000"),
        ("frames=1e2", "from 1 to 1000"),
        ("frames=٣", "from 1 to 1000"),
        ("frames=²", "from 1 to 1000"),
        ("frames=" + "9" * 5000, "from 1 to 1000"),
        ("sample=0", "whole number"),
        ("quarantine=-1", "whole number"),
        ("arm=many", "whole number"),
        ("fds=yes", "on or off"),
        ("children=", "on or off"),
        ("tracemalloc=1", "on or off"),
        ("size=1", "from 1M to 32G"),
        ("size=M", "from 1M to 32G"),
        ("size=64G", "from 1M to 32G"),
        ("size=", "from 1M to 32G"),
        ("size=1T", "K, M or G"),
        ("on_error=die", "record, warn, raise, abort"),
        ("suppressions=", "path of a file"),
    ],
)
def test_a_bad_value_is_answered_with_the_accepted_ones(word: str, hint: str) -> None:
    with pytest.raises(OptionError, match=hint):
        parse(f"full,{word}")
