"""What a running stack has started, so that `stop` can end exactly that."""

import contextlib
import dataclasses
import fcntl
import json
import pathlib
import shutil
import uuid
from collections.abc import Iterator

from stack import paths, processes, signals
from stack.errors import StackError
from stack.processes import Process, this_boot


@dataclasses.dataclass
class State:
    """Written down after each step, so that a run that dies halfway can be cleaned up."""

    supervisor: Process | None = None
    processes: list[Process] = dataclasses.field(default_factory=list)
    folder: pathlib.Path | None = None
    boot: str = dataclasses.field(default_factory=this_boot)
    # Tells this run's state from a later one's.
    run: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def add(self, process: Process) -> None:
        """Remembers a process that was just started."""
        self.processes.append(process)
        self.save()

    def save(self) -> None:
        text = json.dumps(dataclasses.asdict(self), default=str, indent=1)
        unfinished = paths.STATE_FILE.with_suffix(".part")
        unfinished.write_text(text)
        unfinished.replace(paths.STATE_FILE)

    def end(self) -> None:
        """Ends what was started, in reverse order, and removes what it leaves behind."""
        signals.ignore()
        processes.end(self.processes[::-1])
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        if (kept := load()) and kept.run == self.run:
            paths.ENV_FILE.unlink(missing_ok=True)
            paths.STATE_FILE.unlink(missing_ok=True)


def load() -> State | None:
    """The state of the last run that was not stopped."""
    try:
        saved = json.loads(paths.STATE_FILE.read_text())
    except FileNotFoundError:
        return None
    supervisor, started, folder = saved["supervisor"], saved["processes"], saved["folder"]
    if saved["boot"] != this_boot():
        supervisor, started = None, []  # Gone with the machine's last run, unlike the folder.
    return State(
        supervisor=Process(**supervisor) if supervisor else None,
        processes=[Process(**process) for process in started],
        folder=pathlib.Path(folder) if folder else None,
        boot=saved["boot"],
        run=saved["run"],
    )


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Held while a stack starts or stops, so that two of them in one clone do not mix."""
    paths.LOCAL.mkdir(exist_ok=True)
    with paths.LOCK_FILE.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError("this clone's stack is being started or stopped by another command") from None
        yield
