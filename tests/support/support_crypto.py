"""A provider for OpenSSL that says what happens to it.

The handles on libcrypto hide when a key is freed and when a provider goes.
This one, compiled from the source below, writes both into a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support_native import compile_c

__all__ = ["MADE_AND_GONE", "Telltale", "freed_block", "read_memory", "telltale"]

# What the file says of one key whose provider went after it.
MADE_AND_GONE = ["provider loaded", "key made", "key freed", "provider unloaded"]

# OpenSSL's headers need not be installed; the numbers are from core_dispatch.h.
SOURCE = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { int id; void (*function)(void); } dispatch;
typedef struct { const char *names, *properties; const dispatch *functions; const char *about;
} algorithm;

#define FUNCTION(id, function) {id, (void (*)(void))function}

static void tell(const char *line)
{
    int fd = open(getenv("TELLTALE"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && write(fd, line, strlen(line)) < 0) {
        abort();
    }
    close(fd);
}

static void *gen_init(void *provider, int selection, const void *params) { return provider; }
static void gen_cleanup(void *state) { }
static int has(const void *key, int selection) { return 1; }

static void *gen(void *state, void *callback, void *argument)
{
    tell("key made\n");
    return malloc(1);
}

static void key_free(void *key)
{
    if (key) {
        tell("key freed\n");
    }
    free(key);
}

static const dispatch key_functions[] = {
    FUNCTION(2, gen_init), FUNCTION(6, gen), FUNCTION(7, gen_cleanup), FUNCTION(10, key_free),
    FUNCTION(21, has), {0, 0},
};

static const algorithm keys[] = {
    {"TOLD", "provider=telltale", key_functions, "tells"}, {0, 0, 0, 0},
};

static const algorithm *query(void *provider, int operation, int *no_store)
{
    *no_store = 0;
    return operation == 10 ? keys : 0;
}

static void teardown(void *provider) { tell("provider unloaded\n"); }

static const dispatch provider_functions[] = {
    FUNCTION(1024, teardown), FUNCTION(1027, query), {0, 0},
};

int OSSL_provider_init(const void *core, const dispatch *in, const dispatch **out, void **state)
{
    tell("provider loaded\n");
    *out = provider_functions;
    *state = (void *)core;
    return 1;
}
"""


@dataclass(frozen=True, slots=True)
class Telltale:
    """The provider `telltale` with its one algorithm, `TOLD`."""

    modules: Path  # the folder where OpenSSL finds it
    file: Path  # where it writes

    @property
    def lines(self) -> list[str]:
        """What happened so far, in order."""
        return self.file.read_text().splitlines() if self.file.exists() else []

    @property
    def env(self) -> dict[str, str]:
        """What a program needs in its environment to load it."""
        return {"OPENSSL_MODULES": str(self.modules), "TELLTALE": str(self.file)}


@functools.cache
def _compiled() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="safehandle-provider-"))
    compile_c(SOURCE, folder / "telltale.so")
    return folder


@contextlib.contextmanager
def telltale(folder: Path) -> Iterator[Telltale]:
    """Lets OpenSSL find the provider, in this process and its children.

    Skips the test where there is no C compiler."""
    told = Telltale(_compiled(), folder / "told")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.env.items():
            patch.setenv(name, value)
        yield told


def read_memory(address: int, size: int) -> bytes:
    """Bytes of this process, be they freed or not, read past any sanitizer."""
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    try:
        return os.pread(memory, size, address)
    finally:
        os.close(memory)


def freed_block(content: bytes) -> int:
    """Address of `content` in a block of C memory that was freed since, without
    being wiped; 16 other bytes stand before it."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    block: int = libc.malloc(ctypes.c_size_t(16 + len(content)))
    ctypes.memmove(block + 16, content, len(content))
    libc.free(block)
    return block + 16
