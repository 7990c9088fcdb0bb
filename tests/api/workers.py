"""The processes in which the emulator of this stack runs a function."""

import contextlib
import os
import pathlib
import random
import signal
from collections.abc import Iterator


def kill(function: str, most: int) -> int:
    """Ends so many of a function's processes with SIGKILL at once, or all if there are fewer; gives how many."""
    killed = 0
    with contextlib.ExitStack() as opened:
        found = list(_handles(function, opened))
        for handle in random.sample(found, min(most, len(found))):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                killed += 1
    return killed


def _handles(function: str, opened: contextlib.ExitStack) -> Iterator[int]:
    """Handles on its processes: a pid could be another's by the time that it is signalled."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(int(pid))
            opened.callback(os.close, handle)
            if _runs(pathlib.Path("/proc", pid), function):
                yield handle


def _runs(process: pathlib.Path, function: str) -> bool:
    """Whether it is the function's, and its parent this stack's emulator, whose URL no other on the machine has."""
    environment = process.joinpath("environ").read_bytes().split(b"\0")
    wanted = {"AWS_LAMBDA_FUNCTION_NAME": function, "AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]}
    is_told = all(f"{name}={value}".encode() in environment for name, value in wanted.items())
    return is_told and process.joinpath("exe").readlink().name == "bootstrap"
