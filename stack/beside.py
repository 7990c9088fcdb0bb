"""A command, such as the tests, beside private stores or a private stack that live as long as it runs."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from stack import emulator, install, paths, processes, signals, stores
from stack.processes import Launcher

# The caller's keys and knobs are not for a private stack: tests/world plays the providers. No test is to be stopped by
# the limit of an API that it has to itself.
_STACK_ENVIRONMENT = {"API_RATE_LIMIT_PER_MINUTE": "100000"}


def run_with_stores(command: list[str]) -> int:
    """Runs the command beside stores and an emulator and returns its exit code."""
    with _launcher() as launcher:
        variables = {
            "DATABASE_URL": stores.start_postgres(launcher),
            "REDIS_URL": stores.start_redis(launcher),
            **emulator.variables(emulator.start(launcher)),
        }
        return processes.run(command, env={**os.environ, **variables})


def run_with_stack(command: list[str]) -> int:
    """Runs the command beside the deployed template and returns its exit code. Its logs stay in `.local/test-logs`."""
    # Here and not above: SAM's translator takes two seconds to import, which the stores can do without.
    from stack import start

    shutil.rmtree(paths.TEST_LOGS, ignore_errors=True)
    paths.TEST_LOGS.mkdir(parents=True)
    with _launcher(paths.TEST_LOGS) as launcher:
        running = start.start(launcher, start.Ports(), _STACK_ENVIRONMENT, os.urandom(32).hex())
        code = processes.run(command, env={**os.environ, **running.variables})
    if code != 0:
        print(f"the stack's logs are in {paths.TEST_LOGS.relative_to(paths.ROOT)}", flush=True)
    return code


@contextlib.contextmanager
def _launcher(logs: pathlib.Path | None = None) -> Iterator[Launcher]:
    """Whatever happens, what it starts is ended and its folder is gone."""
    signals.interrupt()
    install.install_missing()
    started: list[processes.Process] = []
    folder = paths.new_folder()
    try:
        yield Launcher(folder, logs or folder, remember=started.append, die_with_parent=True)
    finally:
        signals.ignore()
        processes.end(started[::-1])
        shutil.rmtree(folder, ignore_errors=True)
