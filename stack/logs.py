"""The functions' logs and metrics, which the emulator keeps in CloudWatch, and the log files of everything else."""

import collections
import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from botocore.exceptions import BotoCoreError, ClientError

from stack import STACK_NAME, emf, emulator

_PREFIX = f"/aws/lambda/{STACK_NAME}-"
_POLL_SECONDS = 0.5
# A line may be stored a while after the time that it bears, so each look goes back so far behind the one before.
_OVERLAP_MS = 5_000
# Lines that Lambda itself writes around an invocation.
_PLATFORM = ("START RequestId:", "END RequestId:", "REPORT RequestId:")


def collect(emulator_url: str, folder: pathlib.Path) -> None:
    """Copies what the functions write to a file, and puts the metrics in it, for as long as this process runs."""
    client = emulator.client("logs", emulator_url)
    cloudwatch = emulator.client("cloudwatch", emulator_url)
    readers: dict[str, Reader] = collections.defaultdict(Reader)
    with (folder / "functions.log").open("a", buffering=1) as output:
        while True:
            try:
                for group in _groups(client):
                    with readers[group].unread(client, group) as messages:
                        function = group.removeprefix(_PREFIX)
                        emf.send(cloudwatch, _metrics(function, messages, output))
                        output.writelines(f"{function} {message}\n" for message in messages)
            except (BotoCoreError, ClientError) as error:
                output.write(f"logs or metrics are missing: {error}\n")
            time.sleep(_POLL_SECONDS)


def _metrics(function: str, messages: list[str], output: TextIO) -> list[emf.Datum]:
    """Those of all messages; a malformed one is said and left out."""
    data = []
    for message in messages:
        try:
            data += emf.parse(message)
        except emf.MalformedError as fault:
            output.write(f"{function} wrote malformed metrics, which are left out: {fault}\n")
    return data


def _groups(client) -> list[str]:
    return [group["logGroupName"] for group in client.describe_log_groups(logGroupNamePrefix=_PREFIX)["logGroups"]]


class Reader:
    """What was read of a log group, so that each line is read once, whenever it was stored."""

    def __init__(self) -> None:
        self._since = 0
        self._read: collections.Counter[tuple] = collections.Counter()

    @contextlib.contextmanager
    def unread(self, client, group: str) -> Iterator[list[str]]:
        """The new messages; those of a block that fails are new again."""
        start = max(self._since - _OVERLAP_MS, 0)
        pages = client.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=start)
        # The emulator gives functions' lines no `eventId`, so equal ones are told apart by their number.
        found = [(e["timestamp"], e["logStreamName"], e["message"].rstrip()) for page in pages for e in page["events"]]
        known, messages = self._read.copy(), []
        for line in found:
            if known[line] == 0:
                messages.append(line[-1])
            else:
                known[line] -= 1
        yield [message for message in messages if not message.startswith(_PLATFORM)]
        self._since = max((timestamp for timestamp, _, _ in found), default=self._since)
        self._read = collections.Counter(found)


class Tail:
    """Lines that were added to the log files of a folder since the last look."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._offsets = {path: path.stat().st_size for path in folder.glob("*.log")}

    def show(self, write: Callable[[str], None]) -> None:
        """Writes each new whole line after its file's name."""
        for path in sorted(self._folder.glob("*.log")):
            with path.open("rb") as log:
                log.seek(self._offsets.get(path, 0))
                added = log.read()
            complete = added[: added.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(complete)
            for line in complete.decode(errors="replace").splitlines():
                write(f"{path.stem:>9} │ {line}")
