"""The `safehandle` command: one subcommand a file.

It sees a program only through its recording; only `run`, `demo` and `doctor`
start one.  What is wrong and how that reads is the findings' business: here it
is only arranged.  Exit codes: 0 nothing found, 1 findings, 2 bad usage or input.
"""

from __future__ import annotations

import click

from safehandle_debug.cli.demo import demo
from safehandle_debug.cli.diff import diff
from safehandle_debug.cli.doctor import doctor
from safehandle_debug.cli.export import export
from safehandle_debug.cli.group import QuietGroup
from safehandle_debug.cli.holders import holders
from safehandle_debug.cli.list import list_handles
from safehandle_debug.cli.report import report
from safehandle_debug.cli.run import run
from safehandle_debug.cli.snapshot import snapshot
from safehandle_debug.cli.top import top
from safehandle_debug.cli.watch import watch

__all__ = ["main"]


@click.group(
    cls=QuietGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="safehandle-debug", prog_name="safehandle")
def main() -> None:
    """See every handle of a Python program: who opened it, who holds it, how it ended.

    TARGET is a pid, a recording, a session folder or a session's name;
    without one it is the newest session.
    """


COMMANDS = (run, report, list_handles, watch, top, demo, doctor, snapshot, diff, export, holders)
for command in COMMANDS:
    main.add_command(command)
