"""The functions' logs and metrics, which the emulator keeps in CloudWatch, and the log files of everything else."""

import pathlib
import time
from collections.abc import Callable
from typing import TextIO

from botocore.exceptions import BotoCoreError, ClientError

from stack import STACK_NAME, emf, emulator

_PREFIX = f"/aws/lambda/{STACK_NAME}-"
_POLL_SECONDS = 0.5
# Lines that Lambda itself writes around an invocation.
_PLATFORM = ("START RequestId:", "END RequestId:", "REPORT RequestId:")


def collect(emulator_url: str, folder: pathlib.Path) -> None:
    """Copies what the functions write to a file, and puts the metrics in it, for as long as this process runs."""
    client = emulator.client("logs", emulator_url)
    cloudwatch = emulator.client("cloudwatch", emulator_url)
    since: dict[str, int] = {}
    with (folder / "functions.log").open("a", buffering=1) as output:
        while True:
            try:
                for group in _groups(client):
                    messages = _new_messages(client, group, since)
                    function = group.removeprefix(_PREFIX)
                    output.writelines(f"{function} {message}\n" for message in messages)
                    emf.send(cloudwatch, _metrics(function, messages, output))
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


def _new_messages(client, group: str, since: dict[str, int]) -> list[str]:
    # An invocation's lines arrive together, under the time of its end: those of the running moment wait for the next
    # round, so that no line is read twice and none is missed.
    until = int(time.time() * 1000) - 200
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=since.get(group, 0), endTime=until
    )
    messages = [event["message"].rstrip() for page in pages for event in page["events"]]
    since[group] = until + 1  # Both ends belong to the span.
    return [message for message in messages if not message.startswith(_PLATFORM)]


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
