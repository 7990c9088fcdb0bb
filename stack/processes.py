"""Processes that this stack starts, remembers and ends, and no others.

A process is known by its pid and its start time together, so that a pid that was handed out again is never signalled.
Both are counted from the machine's start, which is why a state remembers that as well.
Each leads a session of its own; what it forks (the emulator's function processes) is found by that session.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

from stack import signals
from stack.errors import StackError

_STOP_SECONDS = 8
_KILL_SECONDS = 5


@dataclasses.dataclass(frozen=True)
class Process:
    """A process that was started here."""

    name: str
    pid: int
    started: int
    stop_signal: int = signal.SIGTERM

    def alive(self) -> bool:
        stat = _stat(self.pid)
        return stat is not None and stat.runs() and stat.started == self.started


@dataclasses.dataclass(frozen=True)
class _Stat:
    state: str
    session: int
    started: int

    def runs(self) -> bool:
        """False where it has ended and only waits to be collected."""
        return self.state not in "ZX"


def _stat(pid: int) -> _Stat | None:
    """The process's line in /proc, or None where it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the name in brackets, which may hold anything; fields are numbered as in proc(5).
    fields = text.rpartition(")")[2].split()
    return _Stat(state=fields[0], session=int(fields[3]), started=int(fields[19]))


def this_boot() -> str:
    """Which start of the machine this is."""
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def this_process(name: str) -> Process:
    """The process that runs this code."""
    return _known(name, os.getpid(), signal.SIGTERM)


def _known(name: str, pid: int, stop_signal: int) -> Process:
    stat = _stat(pid)
    if stat is None:
        raise StackError(f"{name} ended at once")
    return Process(name, pid, stat.started, stop_signal)


@dataclasses.dataclass(frozen=True)
class Launcher:
    """Starts the processes of one run, each in a session of its own and its output in a log file of its own."""

    folder: pathlib.Path
    logs: pathlib.Path
    remember: Callable[[Process], None]
    # Even where this process is killed and cannot end them.
    die_with_parent: bool = False

    def log(self, name: str) -> pathlib.Path:
        """The log file of a process."""
        return self.logs / f"{name}.log"

    def start(
        self,
        name: str,
        command: list[str],
        env: dict[str, str] | None = None,
        cwd: pathlib.Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: str | None = None,
    ) -> Process:
        """Starts a process and remembers it before anything can come between."""
        command = [*_setpriv(user, stop_signal if self.die_with_parent else None), *command]
        with self.log(name).open("ab") as output, signals.held():
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
            process = _known(name, child.pid, stop_signal)
            self.remember(process)
        return process


def _setpriv(user: str | None, death_signal: signal.Signals | None) -> list[str]:
    options = []
    if user:
        options += ["--reuid", user, "--regid", user, "--clear-groups"]
    if death_signal:
        options += ["--pdeathsig", death_signal.name.removeprefix("SIG")]
    return ["setpriv", *options, "--"] if options else []


def run(command: list[str], **options) -> int:
    """Runs a command to its end and returns its exit code; interrupted, it takes the command's children with it."""
    with signals.held():
        dying_with_parent = [*_setpriv(None, signal.SIGTERM), *command]
        child = subprocess.Popen(dying_with_parent, start_new_session=True, **options)
        process = _known(command[0], child.pid, signal.SIGTERM)
    try:
        return _exit_code(child.wait())
    except BaseException:
        end([process])
        raise


def _exit_code(status: int) -> int:
    """As a shell reports it: 128 and the signal's number."""
    return 128 - status if status < 0 else status


def end(processes: list[Process]) -> None:
    """Ends the processes one by one, each with what is left of its session: asks first, then insists."""
    for process in processes:
        if not _gone_after(process, process.stop_signal, _STOP_SECONDS):
            _gone_after(process, signal.SIGKILL, _KILL_SECONDS)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)  # Leaves no zombie, where it is a child of this very process.


def _gone_after(process: Process, which: int, seconds: float) -> bool:
    for pid in _members(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, which)
    deadline = time.monotonic() + seconds
    while any(_members(process)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _members(leader: Process) -> Iterator[int]:
    """Living processes of the session that the given one leads."""
    # The kernel gives no pid out again while it still names a session: a living pid tells whose session it is.
    current = _stat(leader.pid)
    if current is not None and current.started != leader.started:
        return
    for entry in os.scandir("/proc"):
        stat = _stat(int(entry.name)) if entry.name.isdigit() else None
        if stat and stat.runs() and stat.session == leader.pid and stat.started >= leader.started:
            yield int(entry.name)
