"""Interruptions: taken while there is something to end, held back where it must be whole, ignored at the end."""

import contextlib
import signal
from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt() -> None:
    """Makes every way of ending this process the one that Python's `finally` sees."""
    _handle(_raise)


def ignore() -> None:
    """What is being ended has to be ended, however impatient the keyboard."""
    _handle(signal.SIG_IGN)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """An interruption in here is raised at its end."""
    before = signal.getsignal(signal.SIGTERM)
    pending = []
    _handle(lambda which, _frame: pending.append(which))
    try:
        yield
    finally:
        _handle(before)
    if pending:
        signal.raise_signal(pending[0])


def _handle(handler) -> None:
    for which in _SIGNALS:
        signal.signal(which, handler)


def _raise(*_: object) -> None:
    raise KeyboardInterrupt
