"""A command, such as the tests, beside private stores and an emulator that live as long as it runs."""

import os
import pathlib
import shutil

from stack import emulator, install, paths, processes, signals, stores


def run_with_stores(command: list[str]) -> int:
    """Runs the command and returns its exit code."""
    signals.interrupt()
    install.install_missing()
    started: list[processes.Process] = []
    folder = paths.new_folder()
    try:
        variables = _start(folder, started)
        return processes.run(command, env={**os.environ, **variables})
    finally:
        signals.ignore()
        processes.end(started[::-1])
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: pathlib.Path, started: list[processes.Process]) -> dict[str, str]:
    # They die with this process, even where it is killed and cannot end them.
    postgres = stores.start_postgres(folder, folder / "postgres.log", dies_with_parent=True)
    started.append(postgres.process)
    redis = stores.start_redis(folder, folder / "redis.log", dies_with_parent=True)
    started.append(redis.process)
    aws = emulator.start(folder, folder / "emulator.log", dies_with_parent=True)
    started.append(aws.process)
    return {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, **emulator.environment(aws.url)}
