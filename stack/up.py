"""`make run` and `make stop`."""

import os
import shlex
import shutil
import signal
import sys
import time

from stack import HEALTH, install, net, paths, processes, signals, state
from stack.errors import StackError
from stack.processes import Launcher
from stack.state import State

_BRIEF = '{"type":"content_planning","platforms":["onlyfans"],"data":{"theme":"summer","tone":"playful"}}'


def up(detach: bool) -> None:
    """Builds, starts, deploys; then follows the logs until it is interrupted, or leaves the stack to itself."""
    signals.interrupt()
    with state.starting():
        before = state.load()
        if before and _runs(before):
            print(f"already running at {read_env()['API_URL']} (`make stop` ends it)")
            return
        if before:
            before.end()
            signals.interrupt()
        current = State(supervisor=processes.this_process("supervisor"))
        try:
            current.save()
            _start(current)
        except BaseException:
            current.end()
            raise
        if detach:
            current.supervisor = None
            current.save()
            print("It runs in the background: logs are in .local/logs, `make stop` ends it.")
            return
    try:
        _follow(current)
    except KeyboardInterrupt:
        print("\nstopping …", flush=True)  # The way that this is meant to end, hence no error.
    finally:
        current.end()


def stop() -> None:
    """Ends what `up` started in this clone, and nothing else."""
    running = state.load()
    if running is None:
        print("nothing to stop")
        return
    if running.supervisor and running.supervisor.alive():
        os.kill(running.supervisor.pid, signal.SIGTERM)
        net.wait_until(lambda: not running.supervisor.alive(), "the end of `make run`", 90)
    with state.starting():
        if leftover := state.load():
            leftover.end()
    print("stopped")


def _start(current: State) -> None:
    # Here and not above: SAM's translator takes two seconds to import, which a stack that runs already can do without.
    from stack import start

    install.install_missing()
    start.step("building", _build)
    shutil.rmtree(paths.LOGS, ignore_errors=True)
    paths.LOGS.mkdir()
    current.folder = paths.new_folder()
    current.save()
    launcher = Launcher(current.folder, paths.LOGS, remember=current.add)
    ports = start.Ports(postgres=15432, redis=16379, emulator=4566, world=4010)
    running = start.start(launcher, ports, os.environ, _session_secret())
    _write_env(running.variables)
    _announce(running.variables, running.providers)


def _build() -> None:
    if processes.run(["cargo", "build", "--workspace"], cwd=paths.ROOT) != 0:
        raise StackError("the build failed")


def _session_secret() -> str:
    """Kept over restarts, so that a token that was pasted somewhere goes on working."""
    if not paths.SESSION_SECRET_FILE.exists():
        paths.SESSION_SECRET_FILE.touch(mode=0o600)
        paths.SESSION_SECRET_FILE.write_text(os.urandom(32).hex())
    return paths.SESSION_SECRET_FILE.read_text()


def _runs(before: State) -> bool:
    """Whether it serves, in whatever health: only `make stop` ends a stack that somebody may be using."""
    watched = before.supervisor is not None and before.supervisor.alive()
    if not paths.ENV_FILE.exists():
        if watched:
            raise StackError("this clone's stack is being stopped by another command")
        return False
    alive = [process.alive() for process in before.processes]
    return watched or (any(alive) and (all(alive) or net.responds(read_env()["API_URL"] + HEALTH, 10)))


def _write_env(variables: dict[str, str]) -> None:
    paths.ENV_FILE.touch(mode=0o600)
    paths.ENV_FILE.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))


def read_env() -> dict[str, str]:
    """The variables of the stack that was started last."""
    lines = paths.ENV_FILE.read_text().splitlines()
    return {name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines)}


def _announce(variables: dict[str, str], providers: str) -> None:
    print(
        f"""
API          {variables["API_URL"]}
providers    {providers}
{variables["USER_ID"]:<12} {variables["USER_TOKEN"]}
{variables["ADMIN_ID"]:<12} {variables["ADMIN_TOKEN"]}
variables    {paths.ENV_FILE.relative_to(paths.ROOT)}

curl -sS {variables["API_URL"]}/api/v2/campaigns/hybrid \\
  -H 'Authorization: Bearer {variables["USER_TOKEN"]}' \\
  -H 'Content-Type: application/json' \\
  -H "Idempotency-Key: $(date +%s)" \\
  -d '{_BRIEF}'
""",
        flush=True,
    )


def _follow(current: State) -> None:
    from stack import logs

    print("Following the logs; Ctrl-C stops the stack.\n", flush=True)
    tail = logs.Tail(paths.LOGS)
    while True:
        tail.show(print)
        sys.stdout.flush()
        ended = [process.name for process in current.processes if not process.alive()]
        if ended:
            raise StackError(f"{', '.join(ended)} ended by itself; its log is in .local/logs")
        time.sleep(0.25)
