"""Runs a command in our place: same terminal, same signals, same end.

All signals to forward are blocked and waited for together with SIGCHLD, so
that none is lost between two system calls and no handler runs Python code.  A
signal that the kernel sent (Ctrl-C at the terminal) has reached the command
too, being in the same process group; one that a process sent has reached only
us and is passed on.  (One sent to the whole group therefore arrives twice: who
sent it to whom is not to be known here, and a signal lost would be worse.)
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FORWARDED = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)
_FROM_KERNEL = 0x80  # SI_KERNEL in <asm-generic/siginfo.h>

_CANNOT_EXECUTE = 126
_NOT_FOUND = 127


class CommandError(Exception):
    """The command cannot be started; the text is a sentence that says why."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code  # what a shell exits with


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    pid: int  # 0: it was not started
    exit_code: int  # 128+N when signal N ended it
    signal: int | None


def run_child(command: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """Runs a command to its end, forwarding signals.

    Must be called in the main thread of a program with one thread.

    Raises:
        CommandError: it cannot be started.
    """
    with Child(command, environment) as child:
        return child.wait()


class Child:
    """A started command.  Signals stay blocked in us until the `with` block ends."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # Ignored by whoever started us, it would leave us no child to wait for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
        try:
            self.pid = os.posix_spawnp(
                command[0],
                list(command),
                environment,
                setsigmask=self._mask,
                # Python ignores these two; a command expects them as they are by default.
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except (OSError, ValueError) as error:
            self._unblock()
            raise _command_error(command[0], error) from error

    def wait(self) -> Ended:
        """Forwards signals until the command has ended."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            info = signal.sigwaitinfo(_FORWARDED | {signal.SIGCHLD})
            if info.si_signo != signal.SIGCHLD and info.si_code != _FROM_KERNEL:
                os.kill(self.pid, info.si_signo)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            return Ended(self.pid, 128 - code, -code)
        return Ended(self.pid, code, None)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._unblock()

    def _unblock(self) -> None:
        """What the command has outlived must not end us now, before its report."""
        while signal.sigtimedwait(_FORWARDED | {signal.SIGCHLD}, 0) is not None:
            continue
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def _command_error(name: str, error: OSError | ValueError) -> CommandError:
    if isinstance(error, ValueError):
        return CommandError(f"cannot run '{name}': {error}", _NOT_FOUND)
    if isinstance(error, FileNotFoundError):
        what = "no such file" if "/" in name else "no such command in PATH"
        return CommandError(f"cannot run '{name}': {what}", _NOT_FOUND)
    return CommandError(f"cannot run '{name}': {error.strerror}", _CANNOT_EXECUTE)
