"""From nothing to a stack that serves."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from stack import deploy, emulator, install, net, paths, processes, providers, session, stores
from stack.errors import StackError
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

    postgres = _step("starting PostgreSQL", lambda: _start_postgres(current))
    redis = _step("starting Redis", lambda: _start_redis(current))
    aws = _step("starting the AWS emulator", lambda: _start_emulator(current))
    world_url = _step("starting tests/world", lambda: _start_world(current))

    chosen = providers.choose(os.environ, world_url)
    stores_and_sessions = {
        "DATABASE_URL": postgres.url,
        "REDIS_URL": redis.url,
        "NEXTAUTH_SECRET": _session_secret(),
    }
    secret_arn = deploy.create_secret(aws, stores_and_sessions | chosen.secrets)
    parameters = _local_parameters() | chosen.parameters | {"SecretsArn": secret_arn}
    outputs = _step("deploying template.yaml", lambda: deploy.deploy(aws, parameters))
    _seed(postgres.url)
    _start_log_collector(current, aws)

    api_url = f"{aws.url}/_aws/execute-api/{outputs['HttpApiId']}"
    health = api_url + HEALTH
    _step("waiting for its health", lambda: net.wait_until(lambda: net.answers(health, 10), health, 60))
    tokens = _tokens(stores_and_sessions["NEXTAUTH_SECRET"])
    variables = {"API_URL": api_url, **tokens, **emulator.environment(aws.url), **stores_and_sessions}
    return {**variables, "WORLD_URL": world_url}, chosen.description


def _step(what: str, action: Callable[[], _Result]) -> _Result:
    begun = time.monotonic()
    print(f"▸ {what} …", flush=True)
    result = action()
    print(f"  {time.monotonic() - begun:.1f} s", flush=True)
    return result


def _build() -> None:
    if processes.run(["cargo", "build", "--workspace"], cwd=paths.ROOT) != 0:
        raise StackError("the build failed")


def _start_postgres(current: State) -> stores.Store:
    postgres = stores.start_postgres(current.folder, paths.log("postgres"), _POSTGRES_PORT)
    current.add(postgres.process)
    return postgres


def _start_redis(current: State) -> stores.Store:
    redis = stores.start_redis(current.folder, paths.log("redis"), _REDIS_PORT)
    current.add(redis.process)
    return redis


def _start_emulator(current: State) -> emulator.Emulator:
    aws = emulator.start(current.folder, paths.log("emulator"), _EMULATOR_PORT, enforce_iam=True)
    current.add(aws.process)
    return aws


def _start_world(current: State) -> str:
    port = net.free_port(_WORLD_PORT)
    command = [str(paths.BINARIES / "huntaze-world"), "--listen", f"{net.HOST}:{port}"]
    process = processes.start("world", command, paths.log("world"))
    current.add(process)
    net.wait_until(lambda: net.accepts(port), "tests/world", 15, process.alive)
    return f"http://{net.HOST}:{port}"


def _start_log_collector(current: State, aws: emulator.Emulator) -> None:
    command = [sys.executable, "-m", "stack", "collect-logs", aws.url]
    current.add(processes.start("logs", command, paths.log("collector"), cwd=paths.ROOT))


def _local_parameters() -> dict[str, str]:
    return {
        "Architecture": "x86_64",
        "CreateDataStores": "true",
        "LogLevel": os.environ.get("LOG_LEVEL", "info"),
        "AllowedOrigins": os.environ.get("ALLOWED_ORIGINS", "http://localhost:3000"),
    }


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
    settings = {"ON_ERROR_STOP": "1", "user_id": _USER_ID, "admin_id": _ADMIN_ID}
    command = ["psql", "-q", "-X", *(f"--set={name}={value}" for name, value in settings.items())]
    if subprocess.run([*command, "-f", str(paths.SEED), database_url], check=False).returncode != 0:
        raise StackError("the demo data could not be written")
