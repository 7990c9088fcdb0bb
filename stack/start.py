"""From nothing to a stack that serves."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from stack import deploy, emulator, install, net, paths, processes, session, settings, stores
from stack.errors import StackError
from stack.processes import Launcher
from stack.state import State
from stack.up import HEALTH

_USER_ID = "demo-creator"
_ADMIN_ID = "demo-admin"

# Where these are taken, any free port does.
_EMULATOR_PORT = 4566
_WORLD_PORT = 4010
_POSTGRES_PORT = 15432
_REDIS_PORT = 16379

_Result = TypeVar("_Result")


def start(current: State) -> tuple[dict[str, str], str]:
    """Returns the variables of `.local/stack.env`, and a line that says which providers are called."""
    install.install_missing()
    _step("building", _build)
    shutil.rmtree(paths.LOGS, ignore_errors=True)
    paths.LOGS.mkdir()
    current.folder = paths.new_folder()
    current.save()
    launcher = Launcher(current.folder, paths.LOGS, remember=current.add)

    database_url = _step("starting PostgreSQL", lambda: stores.start_postgres(launcher, _POSTGRES_PORT))
    redis_url = _step("starting Redis", lambda: stores.start_redis(launcher, _REDIS_PORT))
    aws_url = _step("starting the AWS emulator", lambda: emulator.start(launcher, _EMULATOR_PORT, enforce_iam=True))
    launcher.start("collector", [sys.executable, "-m", "stack", "collect-logs", aws_url], cwd=paths.ROOT)
    world_url = _step("starting tests/world", lambda: _start_world(launcher))

    own = settings.read(os.environ, world_url)
    stores_and_sessions = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "NEXTAUTH_SECRET": _session_secret(),
    }
    secret_arn = deploy.create_secret(aws_url, stores_and_sessions | own.secrets)
    parameters = own.parameters | {"SecretsArn": secret_arn}
    outputs = _step("deploying template.yaml", lambda: deploy.deploy(aws_url, parameters))
    _seed(database_url)

    api_url = f"{aws_url}/_aws/execute-api/{outputs['HttpApiId']}"
    _step("waiting for its health", lambda: _await_health(api_url + HEALTH))
    tokens = _tokens(stores_and_sessions["NEXTAUTH_SECRET"])
    variables = {"API_URL": api_url, **tokens, **emulator.variables(aws_url), **stores_and_sessions}
    return {**variables, "WORLD_URL": world_url}, own.providers


def _step(what: str, action: Callable[[], _Result]) -> _Result:
    begun = time.monotonic()
    print(f"▸ {what} …", flush=True)
    result = action()
    print(f"  {time.monotonic() - begun:.1f} s", flush=True)
    return result


def _build() -> None:
    if processes.run(["cargo", "build", "--workspace"], cwd=paths.ROOT) != 0:
        raise StackError("the build failed")


def _start_world(launcher: Launcher) -> str:
    port = net.free_port(_WORLD_PORT)
    process = launcher.start("world", [str(paths.BINARIES / "huntaze-world"), "--listen", f"{net.HOST}:{port}"])
    net.wait_until(lambda: net.accepts(port), "tests/world", 15, process.alive)
    return f"http://{net.HOST}:{port}"


def _await_health(url: str) -> None:
    try:
        net.wait_until(lambda: net.answers(url, 10), url, 60)
    except StackError as error:
        raise StackError(f"{error}\n{net.fault(url, 10)}\nlogs are in .local/logs") from None


def _session_secret() -> str:
    """Kept over restarts, so that a token that was pasted somewhere goes on working."""
    if not paths.SESSION_SECRET_FILE.exists():
        paths.SESSION_SECRET_FILE.touch(mode=0o600)
        paths.SESSION_SECRET_FILE.write_text(os.urandom(32).hex())
    return paths.SESSION_SECRET_FILE.read_text()


def _tokens(secret: str) -> dict[str, str]:
    return {
        "USER_ID": _USER_ID,
        "USER_TOKEN": session.mint(secret, _USER_ID, "Demo Creator", "creator"),
        "ADMIN_ID": _ADMIN_ID,
        "ADMIN_TOKEN": session.mint(secret, _ADMIN_ID, "Demo Admin", "admin"),
    }


def _seed(database_url: str) -> None:
    if not paths.SEED.exists():
        return
    variables = {"ON_ERROR_STOP": "1", "user_id": _USER_ID, "admin_id": _ADMIN_ID}
    command = ["psql", "-q", "-X", *(f"--set={name}={value}" for name, value in variables.items())]
    if subprocess.run([*command, "-f", str(paths.SEED), database_url], check=False).returncode != 0:
        raise StackError("the demo data could not be written")
