"""The text of reports, to the letter."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import pytest
from pytest_safehandle.report import Leak, Writer

from safehandle_debug.findings import Finding, findings_of
from safehandle_debug.ledger import Event, Frame, History

TEST = (
    Frame("/srv/app/store.py", 17, "open_index"),
    Frame("/srv/app/cache.py", 88, "Cache.reload"),
    Frame("/srv/tests/test_cache.py", 42, "test_reload"),
    Frame("/usr/lib/python3/site-packages/_pytest/python.py", 157, "pytest_pyfunc_call"),
    Frame("/usr/lib/python3/site-packages/pluggy/_callers.py", 121, "_multicall"),
)


def stack(line: int, function: str) -> tuple[Frame, ...]:
    return (Frame("/srv/app/cache.py", line, function), *TEST[2:])


class Told:
    """A handle's history, event by event."""

    def __init__(self, serial: int = 4182, value: int = 11) -> None:
        self.events: list[Event] = []
        self.serial = serial
        self.value = value
        self.refs = 0

    def event(self, kind, refs, at, *, ending=None, detail=None, flags=0) -> Told:
        self.refs = refs
        self.events.append(
            Event(
                seq=len(self.events) + 1,
                at_ns=0,
                serial=self.serial,
                kind=kind,
                ending=ending,
                refs=refs,
                value=self.value,
                stack=at,
                thread="MainThread",
                task=None,
                test="tests/test_cache.py::test_reload",
                detail=detail,
                flags=flags,
            )
        )
        return self

    def finding(self, *, over: bool) -> Finding:
        closed = [event.ending for event in self.events if event.kind == "close"]
        history = History(
            pid=1,
            serial=self.serial,
            kind="file",
            owner="SafeFileHandle",
            space="fd",
            value=self.value,
            detail="/srv/app/cache.idx",
            opened_at_ns=0,
            opened=TEST,
            thread="MainThread",
            task=None,
            test="tests/test_cache.py::test_reload",
            refs=self.refs,
            ending=closed[-1] if closed else None,
            events=self.events,
        )
        (finding,) = findings_of(history, over=over)
        return finding


def opened(serial: int = 4182, value: int = 11) -> Told:
    return Told(serial, value).event("acquire", 1, TEST)


@pytest.fixture
def writer() -> Writer:
    return Writer("/srv", 0, lambda: 310_000_000)


def dedented(text: str) -> str:
    return textwrap.dedent(text).strip()


def test_leak(writer):
    """One handle: how many, what and where; then its whole life."""
    told = opened()
    told.event("add-ref", 2, stack(91, "Cache.reload")).event(
        "release", 1, stack(96, "Cache.reload")
    )
    leak = Leak(told.finding(over=True), holder="app.cache.INSTANCES")
    assert writer.leaks([leak]) == dedented(
        """
        1 handle leaked: SafeFileHandle fd 11 '/srv/app/cache.idx' (app/store.py:17)

        SafeFileHandle #4182, fd 11 '/srv/app/cache.idx', refcount 1, open for 0.31 s
          opened         tests/test_cache.py:42: in test_reload
                         app/cache.py:88: in Cache.reload
                         app/store.py:17: in open_index
          add-ref        app/cache.py:91: in Cache.reload (refcount 1 -> 2)
          release        app/cache.py:96: in Cache.reload (refcount 2 -> 1)
          still held     app.cache.INSTANCES

        Close it, or allow the site:
          @pytest.mark.handles(allow="app/store.py:open_index", reason="...")
        """
    )


def test_leak_of_a_fixture(writer):
    """Two handles of a wider fixture, one opened during another test."""
    leaks = [
        Leak(opened(7, 8).finding(over=True), "'db' (module)", "tests/test_cache.py::test_one"),
        Leak(opened(9, 10).finding(over=True), "'db' (module)"),
    ]
    assert writer.leaks(leaks) == dedented(
        """
        2 handles leaked by fixture 'db' (module): SafeFileHandle fd 8 '/srv/app/cache.idx' (app/store.py:17) and 1 more

        SafeFileHandle #7, fd 8 '/srv/app/cache.idx', refcount 1, open for 0.31 s
          opened         tests/test_cache.py:42: in test_reload
                         app/cache.py:88: in Cache.reload
                         app/store.py:17: in open_index
          during         tests/test_cache.py::test_one

        SafeFileHandle #9, fd 10 '/srv/app/cache.idx', opened at app/store.py:17: in open_index by fixture 'db' (module)

        Close it, or allow the site:
          @pytest.mark.handles(allow="app/store.py:open_index", reason="...")
        """  # noqa: E501
    )


def test_unbalanced(writer):
    """The add-ref that was never released is the place."""
    told = opened().event("add-ref", 2, stack(91, "Cache.borrow"))
    told.event("dispose", 1, stack(99, "Cache.close"), ending="closed")
    assert writer.leaks([Leak(told.finding(over=True))]) == dedented(
        """
        1 handle unbalanced: SafeFileHandle fd 11 '/srv/app/cache.idx' (app/cache.py:91)

        SafeFileHandle #4182, fd 11 '/srv/app/cache.idx', refcount 1, open for 0.31 s
          opened         tests/test_cache.py:42: in test_reload
                         app/cache.py:88: in Cache.reload
                         app/store.py:17: in open_index
          add-ref        app/cache.py:91: in Cache.borrow (refcount 1 -> 2)
          closed         tests/test_cache.py:42: in test_reload
                         app/cache.py:99: in Cache.close (1 reference still out)

        Release each reference that was added; `with handle.hold():` does so.
        """
    )


def test_double_release(writer):
    """Closed, then released again: both stacks."""
    told = opened().event("close", 0, stack(30, "Pool.put"), ending="closed")
    told.event("double-release", 0, stack(31, "Pool.put"))
    assert writer.misuses([told.finding(over=False)]) == dedented(
        """
        SafeFileHandle #4182 released twice: fd 11 (app/cache.py:31)

          opened         tests/test_cache.py:42: in test_reload
                         app/cache.py:88: in Cache.reload
                         app/store.py:17: in open_index
          closed         tests/test_cache.py:42: in test_reload
                         app/cache.py:30: in Pool.put
          released again tests/test_cache.py:42: in test_reload
                         app/cache.py:31: in Pool.put
        """
    )


def test_long_history_is_folded(writer):
    """The first and the last references are shown, the others counted."""
    told = opened()
    for line in range(100, 150):
        told.event("add-ref", 2, stack(line, "use")).event("release", 1, stack(line, "use"))
    text = writer.leaks([Leak(told.finding(over=True))])
    assert text.count("in use") == 6
    assert "  ...            94 more add-refs and releases\n" in text
    whole = Writer("/srv", 2, lambda: 0).leaks([Leak(told.finding(over=True))])
    assert whole.count("in use") == 100


def test_quiet_is_one_line():
    """Below verbosity 0 there is only the first line."""
    writer = Writer("/srv", -1, lambda: 0)
    text = writer.leaks([Leak(opened().finding(over=True))])
    assert text == "1 handle leaked: SafeFileHandle fd 11 '/srv/app/cache.idx' (app/store.py:17)"


def test_paths_outside_the_folder_stay_absolute():
    """A relative path is shown only where it is shorter and unambiguous."""
    writer = Writer("/srv/tests", 0, lambda: 0)
    assert writer.frame(TEST[0]) == "/srv/app/store.py:17: in open_index"
    assert writer.frame(TEST[2]) == "test_cache.py:42: in test_reload"
    assert writer.frame(Frame("<string>", 1, "<module>")) == "<string>:1: in <module>"


def test_source_line_is_marked(suite):
    """The user's own line ends the record, with what of it is meant."""
    result = suite.check(
        """
    from safehandle_debug import SafeFileHandle

    KEPT = []

    def test_leaks():
        KEPT.append(SafeFileHandle.open("/dev/null"))

    def test_twice():
        handle = SafeFileHandle.open("/dev/null"); handle.dangerous_release(); handle = None
    """
    )
    result.stdout.fnmatch_lines(
        [
            "  released again *",
            "",
            '    handle = SafeFileHandle.open("/dev/null"); handle.dangerous_release(); *',
            " " * 47 + "^" * 26,
        ],
        consecutive=True,
    )
    result.stdout.fnmatch_lines(
        [
            "  still held     test_it.KEPT[[]0]",
            "",
            '    KEPT.append(SafeFileHandle.open("/dev/null"))',
            "                " + "^" * 32,
        ],
        consecutive=True,
    )


def test_source_that_is_gone_is_left_out(writer, tmp_path):
    """A long line is cut; a line that is not there is not shown."""
    path = tmp_path / "app.py"
    path.write_text("x = 1\nlong = '" + "a" * 200 + "'\n")

    for line, shown in ((2, "    long = '" + "a" * 85 + "..."), (3, None)):
        frames = (Frame(str(path), line, "f"),)
        finding = opened().finding(over=True)
        finding = replace(finding, culprit=frames)
        said = writer.leaks([Leak(finding)]).splitlines()
        assert (shown in said) == (shown is not None)
        assert any(each.startswith("    long") for each in said) == (shown is not None)
