"""Interruptions: taken while there is something to end, ignored while it is being ended."""

import signal

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt() -> None:
    """Makes every way of ending this process the one that Python's `finally` sees."""

    def raise_interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for which in _SIGNALS:
        signal.signal(which, raise_interrupt)


def ignore() -> None:
    """What is being ended has to be ended, however impatient the keyboard."""
    for which in _SIGNALS:
        signal.signal(which, signal.SIG_IGN)
