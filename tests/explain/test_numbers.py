"""Bare numbers: where they stand is said, and no more than that."""

from __future__ import annotations

import asyncio
import enum
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_house import run
from support_programs import run_program

from safehandle_debug.findings.holders import Target, search

PLENTY_S = 60.0
# As text, so that no variable of the test is the number.
NUMBER = "741852"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    """An empty module of a program, `app`."""
    module = types.ModuleType("app")
    module.__file__ = str(tmp_path / "app.py")
    monkeypatch.setitem(sys.modules, "app", module)
    return module


def said(number: str, **bounds: Any) -> list[str]:
    bounds = {"seconds": PLENTY_S} | bounds
    return list(search([Target(1, "raw", int(number))], **bounds)[1].lines())


def fresh() -> int:
    """An object of its own, as what a system call returns."""
    return int(NUMBER)


class Connection:
    """Something of the program's."""

    __module__ = "app"
    __slots__ = ("__dict__", "fd")


def in_dict(app: Any) -> str:
    app.POOL = {"x": fresh()}
    return "app.POOL['x']"


def in_list(app: Any) -> str:
    app.open_ones = [None, fresh()]
    return "app.open_ones[1]"


def in_key(app: Any) -> str:
    app.names = {fresh(): "x"}
    return "app.names, a key"


def in_set(app: Any) -> str:
    app.open_ones = {fresh()}
    return "app.open_ones, a member"


def in_global(app: Any) -> str:
    app.fd = fresh()
    return "app.fd"


def in_attribute(app: Any) -> str:
    app.connection = Connection()
    app.connection.number = fresh()  # type: ignore[attr-defined]
    return "app.connection.number"


def in_slot(app: Any) -> str:
    app.connection = Connection()
    app.connection.fd = fresh()
    return "app.connection.fd"


def in_class(app: Any) -> str:
    app.Pool = type("Pool", (), {"__module__": "app", "fd": fresh()})
    return "app.Pool.fd"


def in_closure(app: Any) -> str:
    fd = fresh()
    app.give = lambda: fd
    app.give.__module__ = "app"
    return "app.give, closure fd"


def in_descriptor_of_a_library(app: Any) -> str:
    """Other numbers of such objects are their own affair."""
    app.parser = json.JSONDecoder()
    app.parser._fd = fresh()
    return "app.parser._fd"


@pytest.mark.parametrize(
    "keep",
    [
        in_dict,
        in_list,
        in_key,
        in_set,
        in_global,
        in_attribute,
        in_slot,
        in_class,
        in_closure,
        in_descriptor_of_a_library,
    ],
)
def test_where_a_number_stands(app: Any, keep: Callable[[Any], str]) -> None:
    expected = keep(app)
    assert said(NUMBER) == [f"nothing; the number {NUMBER} stands in {expected}"]


def test_all_of_a_few_places_are_named(app: Any) -> None:
    app.fd, app.deep = fresh(), {"a": [fresh()]}
    assert said(NUMBER) == [
        f"nothing; the number {NUMBER} stands in app.fd and in app.deep['a'][0]"
    ]


def test_a_local_and_a_task_are_named(app: Any) -> None:
    async def poll(ready: asyncio.Event) -> None:
        fd = fresh()
        ready.set()
        await asyncio.Event().wait()
        assert fd

    async def main() -> list[str]:
        ready = asyncio.Event()
        task = asyncio.create_task(poll(ready), name="poller")
        await ready.wait()
        try:
            return said(NUMBER)
        finally:
            task.cancel()

    (line,) = asyncio.run(main())
    assert line.startswith(f"nothing; the number {NUMBER} stands in task 'poller', local fd of ")


# --- what looks like it, and is not it ---


def test_a_number_that_stands_nowhere(app: Any) -> None:
    app.fd = fresh() + 1
    assert said(NUMBER) == [f"nothing: no variable of the program is {NUMBER}"]


def as_constant(app: Any) -> None:
    app.RETRIES = fresh()


def as_constant_of_a_class(app: Any) -> None:
    app.Config = type("Config", (), {"__module__": "app", "RETRIES": fresh()})


def in_many_places(app: Any) -> None:
    app.sizes = [[fresh()] for _ in range(4)]


@pytest.mark.parametrize("keep", [as_constant, as_constant_of_a_class, in_many_places])
def test_what_may_mean_anything_is_not_named(app: Any, keep: Callable[[Any], None]) -> None:
    keep(app)
    assert said(NUMBER) == ["nothing: it is a bare number"]


def as_default(app: Any) -> None:
    def give(retries: int = fresh()) -> int:
        return retries

    give.__module__ = "app"
    app.give = give


def as_member_of_an_enum(app: Any) -> None:
    app.State = enum.Enum("State", {"BUSY": fresh()}, module="app")


def in_an_object_of_a_library(app: Any) -> None:
    app.task = types.SimpleNamespace()
    app.parser = json.JSONDecoder()
    app.parser.level = fresh()


def in_a_library(app: Any) -> None:
    vars(json)["_number"] = fresh()


@pytest.mark.parametrize(
    "keep", [as_default, as_member_of_an_enum, in_an_object_of_a_library, in_a_library]
)
def test_what_no_program_puts_there_is_left_out(app: Any, keep: Callable[[Any], None]) -> None:
    keep(app)
    try:
        assert said(NUMBER) == [f"nothing: no variable of the program is {NUMBER}"]
    finally:
        vars(json).pop("_number", None)


def test_an_equal_number_of_another_type_is_none(app: Any) -> None:
    app.share, app.flag = float(NUMBER), True
    assert said(NUMBER) == [f"nothing: no variable of the program is {NUMBER}"]


def test_standard_streams_are_not_looked_for(app: Any) -> None:
    app.fd = 2
    assert said("2") == ["nothing that Python can see"]


def test_a_cut_says_so_and_claims_nothing(app: Any) -> None:
    assert said(NUMBER, most=10) == ["(the search was cut after 10 objects: nothing found yet)"]


def test_a_program_leaves_word_of_its_numbers(tmp_path: Path) -> None:
    done = run_program(
        """
        import os
        POOL = {}
        def main():
            POOL["x"] = os.open("/dev/null", os.O_RDONLY)
            os.open("/dev/zero", os.O_RDONLY)
            print(POOL["x"])
        main()
        """,
        tmp_path,
        level="full,fds=on",
    ).ok()
    env = {"SAFEHANDLE_DEBUG_DIR": str(tmp_path / "sessions")}
    command = [sys.executable, "-m", "safehandle_debug", "report", "--format", "json"]
    report = json.loads(run(command, cwd=tmp_path, env=env).stdout)

    held = {each["handle"]["detail"]: each["holders"] for each in report["findings"]}
    (number,) = done.lines
    assert held["/dev/null"] == [f"nothing; the number {number} stands in __main__.POOL['x']"]
    assert held["/dev/zero"] == [f"nothing: no variable of the program is {int(number) + 1}"]
