"""`check_handles()`: a block that must close what it opens."""

from __future__ import annotations

import re

import pytest

CASES = {
    "leak": ("kept.append(opened())", "opened at test_it.py:11 in opened was never closed"),
    "unbalanced": (
        "handle = opened(); handle.dangerous_add_ref(); handle.close(); kept.append(handle)",
        "was never released",
    ),
    "double release": ("opened().dangerous_release()", "without an add-ref"),
    "two": ("kept.extend([opened(), opened()])", "was never closed and 1 more"),
}
CLEAN = {
    "closed": "opened().close()",
    "with": "with opened(): pass",
    "dropped": "opened()",
    "closed twice": "handle = opened(); handle.close(); handle.close()",
    "garbage": "ring = [opened()]; ring.append(ring); del ring",
    "detached": "import os; os.close(opened().detach())",
    "borrowed": "kept.append(SafeFileHandle(0, owns_handle=False))",
    "closed by a thread": "threading.Timer(0.02, opened().close).start()",
    "opened before": "outer.dangerous_add_ref(); outer.dangerous_release()",
    "exception": "1 / 0; kept.append(opened())",
}
CHECKED = """
outer = opened()
opened().dangerous_release()  # before the block
try:
    with check_handles({arguments}):
        {body}
except HandleLeakError as error:
    print("wrong:", error)
except ZeroDivisionError:
    print("fine")
else:
    print("fine")
"""


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_raised(run, case):
    """The message says what and where; the report follows."""
    body, message = CASES[case]
    outcome = run(CHECKED.format(arguments="", body=body), "-X", "dev")
    assert outcome.returncode == 0, outcome.text
    assert re.match(r"wrong: [a-z-]+: SafeFileHandle fd \d+ ", outcome.text), outcome.text
    assert message in outcome.text.splitlines()[0]
    assert "  opened   test_it.py:11 in opened" in outcome.text


@pytest.mark.parametrize("case", CLEAN)
def test_correct_programs_are_silent(run, case):
    """Whatever closed it, and whoever."""
    outcome = run(CHECKED.format(arguments="settle_s=5", body=CLEAN[case]), "-X", "dev")
    assert outcome.text.splitlines()[0] == "fine", outcome.text


@pytest.mark.parametrize("site", ["test_it.py:opened", "type:SafeFileHandle", "*.py:open*"])
def test_allowed_sites(run, site):
    """Sites are written as for the plugin."""
    body = "kept.append(opened())"
    outcome = run(CHECKED.format(arguments=f"allow={site!r}", body=body), "-X", "dev")
    assert outcome.text == "fine\n"


def test_sites_that_make_no_sense(run):
    """Said where the block begins."""
    outcome = run("with check_handles(allow='nowhere'): pass", "-X", "dev")
    assert "SiteError: 'nowhere' is not a site: use path-glob:function-glob" in outcome.text


def test_checks_may_be_nested_and_repeated(run):
    """Each sees its block alone; all are one recording."""
    outcome = run(
        """
        import os
        with check_handles():
            with check_handles(), opened():
                pass
        for number in range(3):
            try:
                with check_handles():
                    kept.append(opened())
            except HandleLeakError as error:
                print(number, str(error).splitlines()[0].count("never closed"))
        (session,) = os.listdir(os.environ["SAFEHANDLE_DEBUG_DIR"])
        (recording,) = os.listdir(os.path.join(os.environ["SAFEHANDLE_DEBUG_DIR"], session))
        """,
        "-X",
        "dev",
    )
    assert outcome.text == "0 1\n1 1\n2 1\n", outcome.text


def test_a_recording_that_runs_is_used(run):
    """SAFEHANDLE_DEBUG has begun one: there is no second."""
    outcome = run(
        """
        from safehandle_debug import _native
        before = _native.recording_path()
        try:
            with check_handles():
                kept.append(opened())
        except HandleLeakError:
            print(before is not None and before == _native.recording_path())
        """,
        "-X",
        "dev",
        SAFEHANDLE_DEBUG="full",
    )
    assert outcome.text == "True\n"


def test_where_nothing_can_be_recorded(run, tmp_path):
    """One sentence that says what to do."""
    (tmp_path / "file").touch()
    outcome = run(
        """
        from safehandle_debug import RecordingError
        try:
            with check_handles():
                pass
        except RecordingError as error:
            print(error)
        """,
        "-X",
        "dev",
        SAFEHANDLE_DEBUG_DIR=str(tmp_path / "file" / "in"),
    )
    assert outcome.text.startswith("handles cannot be checked: cannot make the folder ")
    assert outcome.text.count("\n") == 1


def test_pytest_is_not_needed(run):
    """Nothing of it is loaded, nor unittest."""
    outcome = run(
        """
        import sys
        print({"pytest", "_pytest", "pluggy", "objgraph"} & set(sys.modules))
        """,
        "-X",
        "dev",
    )
    assert outcome.text == "set()\n"


@pytest.mark.parametrize("with_thread", [True, False])
def test_waits_for_threads_without_python(run, with_thread):
    """A library's own thread may be about to close what it has opened."""
    outcome = run(
        f"""
        import ctypes, signal
        libc = ctypes.CDLL(None)
        waits, thread = ctypes.create_string_buffer(64), ctypes.c_ulong()
        libc.sem_init(waits, 0, 0)
        if {with_thread}:
            assert not libc.pthread_create(ctypes.byref(thread), None, libc.sem_wait, waits)
        handle = opened()
        # Python code that runs while no thread of Python's does.
        signal.signal(signal.SIGALRM, lambda *_: handle.close())
        try:
            with check_handles(settle_s=30):
                handle = opened()
                signal.setitimer(signal.ITIMER_REAL, 0.5)
            print("waited")
        except HandleLeakError:
            print("did not wait")
        """,
        "-u",
    )
    assert ("waited" if with_thread else "did not wait") in outcome.text.splitlines(), outcome.text
