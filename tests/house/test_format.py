"""The record layout stands twice, in C and in Python: they are held equal.

A small C program that includes the header prints every constant, enumerator,
size and offset; the Python side is computed from the `struct` formats.
"""

from __future__ import annotations

import enum
import pathlib
import re
import shutil
import struct
import subprocess
import sysconfig
from dataclasses import dataclass

import pytest

from safehandle_debug.recording import format as mirror

HEADER_FILE = pathlib.Path(__file__).parents[2] / "safehandle_debug/_core/recording/format.h"

CONSTANTS = ["VERSION", "HEADER_SIZE", "BLOCK_SIZE", "BLOCK_HEAD_SIZE", "BYTE_ORDER_MARK"]
COUNTS = ["EVENTS_A_BLOCK", "LIVE_A_BLOCK"]

ENUMS: dict[str, type[enum.IntEnum] | type[enum.IntFlag]] = {
    "block_type": mirror.BlockType,
    "level": mirror.Level,
    "ended": mirror.Ended,
    "event_kind": mirror.EventKind,
    "ending": mirror.Ending,
    "flag": mirror.Flag,
    "data_type": mirror.DataType,
}

# How enumerators are called in C: SHD_<prefix>_<name>.
PREFIXES = {
    "block_type": "BLOCK",
    "level": "LEVEL",
    "ended": "ENDED",
    "event_kind": "EVENT",
    "ending": "ENDING",
    "flag": "FLAG",
    "data_type": "DATA",
}

STRUCTS = {
    "header": mirror.HEADER,
    "block_head": mirror.BLOCK_HEAD,
    "event": mirror.EVENT,
    "live": mirror.LIVE,
    "stack_node": mirror.STACK_NODE,
    "data_head": mirror.DATA_HEAD,
    "code": mirror.CODE,
    "type": mirror.TYPE,
    "thread_record": mirror.THREAD,
}

INLINED = {"anchor"}  # structs that only stand inside others


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a C struct, or of a struct inside it."""

    name: str  # "first.ticks" in C
    type: str  # of an element
    count: int  # elements; 1 unless it is an array


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def enums_in_c() -> dict[str, list[str]]:
    """The enumerators of each enum, by the enum's name."""
    found = re.findall(
        r"enum shd_(\w+) \{(.*?)\};", without_comments(HEADER_FILE.read_text()), re.S
    )
    return {name: re.findall(r"(SHD_\w+)\s*=", body) for name, body in found}


def structs_in_c() -> dict[str, list[Field]]:
    """The fields of each struct, structs inside it flattened."""
    text = without_comments(HEADER_FILE.read_text())
    structs: dict[str, list[Field]] = {}
    for body, struct_name in re.findall(r"typedef struct \{(.*?)\} shd_(\w+);", text, re.S):
        fields: list[Field] = []
        for type_name, name, count in re.findall(r"(\w+) (\w+)(?:\[(\d+)\])?;", body):
            inner = structs.get(type_name.removeprefix("shd_"))
            if inner is None:
                fields.append(Field(name, type_name, int(count or 1)))
            else:
                fields += [Field(f"{name}.{field.name}", field.type, 1) for field in inner]
        structs[struct_name] = fields
    return structs


def program() -> str:
    """C that prints `key value` for everything there is to compare."""
    lines = [f"constant.{name} SHD_{name}" for name in CONSTANTS + COUNTS]
    for names in enums_in_c().values():
        lines += [f"enumerator.{name} {name}" for name in names]
    for name, fields in structs_in_c().items():
        lines.append(f"size.{name} sizeof(shd_{name})")
        for field in fields:
            key = f"{name}.{field.name}"
            lines.append(f"offset.{key} offsetof(shd_{name}, {field.name})")
            lines.append(f"fieldsize.{key} sizeof(((shd_{name} *)0)->{field.name})")
            lines.append(f"kind.{key} KIND(((shd_{name} *)0)->{field.name})")
    prints = "\n".join(
        f'    printf("{key} %lld\\n", (long long)({value}));'
        for key, value in (line.split(" ", 1) for line in lines)
    )
    return f"""
        #include <stddef.h>
        #include <stdio.h>
        #include "{HEADER_FILE}"
        #define KIND(x) _Generic((x), int32_t: 'i', int64_t: 'q', uint8_t: 'B', \\
            uint16_t: 'H', uint32_t: 'I', uint64_t: 'Q', double: 'd', \\
            char *: 's', uint32_t *: 'I')
        int main(void) {{
            printf("magic.%s", SHD_MAGIC);
        {prints}
            return 0;
        }}
    """


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the compiler says, by key."""
    folder = tmp_path_factory.mktemp("format")
    source = folder / "layout.c"
    source.write_text(program())
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    compiler = shutil.which(compiler) or shutil.which("cc") or "gcc"
    subprocess.run(
        [compiler, "-std=gnu11", "-Wall", "-Werror", "-o", folder / "layout", source], check=True
    )
    output = subprocess.run([folder / "layout"], check=True, capture_output=True).stdout
    magic = b"magic." + mirror.MAGIC
    assert output.startswith(magic)
    pairs = (line.rsplit(" ", 1) for line in output[len(magic) :].decode().splitlines())
    return {key: int(value) for key, value in pairs}


def python_fields(layout: struct.Struct) -> list[tuple[int, int, str]]:
    """(offset, size in bytes, code of an element) of each field of a format.

    A count is an array, as in the formats; repeated fields are spelled out.
    """
    fields = []
    offset = 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        size = struct.calcsize(f"={count}{code}")
        fields.append((offset, size, code))
        offset += size
    return fields


@pytest.mark.parametrize("name", CONSTANTS + COUNTS)
def test_constants_are_equal(in_c: dict[str, int], name: str) -> None:
    assert in_c[f"constant.{name}"] == getattr(mirror, name)


def test_every_enum_is_mirrored() -> None:
    assert set(enums_in_c()) == set(ENUMS)


@pytest.mark.parametrize("name", ENUMS)
def test_enumerators_are_equal(in_c: dict[str, int], name: str) -> None:
    prefix = f"SHD_{PREFIXES[name]}_"
    values = {
        enumerator.removeprefix(prefix): in_c[f"enumerator.{enumerator}"]
        for enumerator in enums_in_c()[name]
    }
    assert values == {member.name: member.value for member in ENUMS[name]}


def test_every_struct_is_mirrored() -> None:
    assert set(structs_in_c()) == set(STRUCTS) | INLINED


@pytest.mark.parametrize("name", STRUCTS)
def test_sizes_are_equal(in_c: dict[str, int], name: str) -> None:
    assert in_c[f"size.{name}"] == STRUCTS[name].size


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_are_equal(in_c: dict[str, int], name: str) -> None:
    """Offset, size and type of every field, in order."""
    expected = [
        (
            in_c[f"offset.{name}.{field.name}"],
            in_c[f"fieldsize.{name}.{field.name}"],
            chr(in_c[f"kind.{name}.{field.name}"]),
        )
        for field in structs_in_c()[name]
    ]
    assert python_fields(STRUCTS[name]) == expected


def test_the_header_names_its_fields_as_in_c() -> None:
    names = [field.name.replace(".", "_") for field in structs_in_c()["header"]]
    assert list(mirror.Header._fields) == names


def test_the_header_unpacks_into_its_fields() -> None:
    values = mirror.HEADER.unpack(bytes(mirror.HEADER.size))
    assert len(values) == len(mirror.Header._fields)
