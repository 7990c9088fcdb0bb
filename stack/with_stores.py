"""A command, such as the tests, beside private stores and an emulator that live as long as it runs."""

import os
import shutil

from stack import emulator, install, paths, processes, signals, stores


def run_with_stores(command: list[str]) -> int:
    """Runs the command and returns its exit code."""
    signals.interrupt()
    install.install_missing()
    started: list[processes.Process] = []
    folder = paths.new_folder()
    launcher = processes.Launcher(folder, logs=folder, remember=started.append, die_with_parent=True)
    try:
        variables = {
            "DATABASE_URL": stores.start_postgres(launcher),
            "REDIS_URL": stores.start_redis(launcher),
            **emulator.variables(emulator.start(launcher)),
        }
        return processes.run(command, env={**os.environ, **variables})
    finally:
        signals.ignore()
        processes.end(started[::-1])
        shutil.rmtree(folder, ignore_errors=True)
