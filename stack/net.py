"""Loopback ports, and waiting for what listens on them."""

import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from stack.errors import StackError

HOST = "127.0.0.1"

# Below the kernel's range for outgoing connections, which could otherwise take a port between choosing and binding it.
_PORTS = range(15000, 32000)


def free_port(preferred: int | None = None) -> int:
    """The preferred port if nobody has it, else any free one."""
    candidates = [preferred] if preferred else []
    candidates += random.sample(_PORTS, 100)
    for port in candidates:
        if _is_free(port):
            return port
    raise StackError("no free port found on the loopback interface")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do it: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until(ready: Callable[[], bool], what: str, seconds: float, alive: Callable[[], bool] = lambda: True) -> None:
    """Asks `ready` until it is, or `alive` says no, or the time is up."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not alive():
            raise StackError(f"{what} ended while it was starting")
        if time.monotonic() > deadline:
            raise StackError(f"{what} was not ready within {seconds:.0f} s")
        time.sleep(0.05)


def accepts(port: int) -> bool:
    """Whether something listens on the port."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def answers(url: str, seconds: float = 2) -> bool:
    """Whether a GET of the URL is answered with a status below 400."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):
            return True
    except OSError:
        return False


def responds(url: str, seconds: float = 2) -> bool:
    """Whether a GET of the URL is answered, whatever the status."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def fault(url: str, seconds: float = 2) -> str:
    """What a GET of the URL is answered with, where it is refused or fails."""
    try:
        with urllib.request.urlopen(url, timeout=seconds):
            return ""
    except urllib.error.HTTPError as error:
        return f"{error}: {error.read(10_000).decode(errors='replace')}"
    except OSError as error:
        return str(error)
