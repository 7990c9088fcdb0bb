"""From nothing but built binaries to a stack that serves."""

import dataclasses
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import TypeVar

from stack import HEALTH, deploy, emulator, net, paths, session, settings, stores
from stack.errors import StackError
from stack.processes import Launcher

_USER_ID = "demo-creator"
_ADMIN_ID = "demo-admin"
_USERS_TABLE = "huntaze-users"
# The account of the demo user that has a session with tests/world.
_ACCOUNT_ID = "acc-ana"
_ACCOUNTS = "/api/v2/onlyfans/accounts"
_FLAG = "hybrid-orchestrator"
_FLAGS = "/api/admin/feature-flags"

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Ports:
    """Where a port is wanted and taken, or none is wanted, any free one does."""

    postgres: int | None = None
    redis: int | None = None
    emulator: int | None = None
    world: int | None = None


@dataclasses.dataclass(frozen=True)
class Running:
    """A stack that serves: the variables that a client needs, and a line that says which providers are called."""

    variables: dict[str, str]
    providers: str


def start(launcher: Launcher, ports: Ports, environment: Mapping[str, str], session_secret: str) -> Running:
    """Starts everything through the launcher and deploys the template as the environment says."""
    database_url = step("starting PostgreSQL", lambda: stores.start_postgres(launcher, ports.postgres))
    redis_url = step("starting Redis", lambda: stores.start_redis(launcher, ports.redis))
    aws_url = step("starting the AWS emulator", lambda: emulator.start(launcher, ports.emulator, enforce_iam=True))
    collect = [sys.executable, "-m", "stack", "collect-logs", aws_url, str(launcher.logs)]
    launcher.start("collector", collect, cwd=paths.ROOT)
    world_url = step("starting tests/world", lambda: _start_world(launcher, ports.world))

    own = settings.read(environment, world_url)
    stores_and_sessions = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "NEXTAUTH_SECRET": session_secret,
    }
    deploy.verify_sender(aws_url, settings.SENDER)
    deploy.create_users(aws_url, _USERS_TABLE, {user: f"{user}@huntaze.example" for user in (_USER_ID, _ADMIN_ID)})
    secret_arn = deploy.create_secret(aws_url, stores_and_sessions | own.secrets)
    parameters = own.parameters | {"SecretsArn": secret_arn}
    outputs = step("deploying template.yaml", lambda: deploy.deploy(aws_url, parameters))
    _seed(database_url)

    api_url = f"{aws_url}/_aws/execute-api/{outputs['HttpApiId']}"
    step("waiting for its health", lambda: _await_health(api_url + HEALTH, launcher))
    tokens = _tokens(session_secret)
    step(f"taking everybody in by the flag {_FLAG}", lambda: _take_everybody_in(api_url, tokens["ADMIN_TOKEN"]))
    if own.plays_onlyfans:
        step(f"signing {_ACCOUNT_ID} in to OnlyFans", lambda: _sign_in(api_url, tokens["USER_TOKEN"]))
    variables = {"API_URL": api_url, **tokens, **emulator.variables(aws_url), **stores_and_sessions}
    return Running({**variables, "WORLD_URL": world_url}, own.providers)


def step(what: str, action: Callable[[], _Result]) -> _Result:
    """Says what is being done and how long it took."""
    begun = time.monotonic()
    print(f"▸ {what} …", flush=True)
    result = action()
    print(f"  {time.monotonic() - begun:.1f} s", flush=True)
    return result


def _start_world(launcher: Launcher, port: int | None) -> str:
    port = net.free_port(port)
    process = launcher.start("world", [str(paths.BINARIES / "huntaze-world"), "--listen", f"{net.HOST}:{port}"])
    net.wait_until(lambda: net.accepts(port), "tests/world", 15, process.alive)
    return f"http://{net.HOST}:{port}"


def _await_health(url: str, launcher: Launcher) -> None:
    try:
        net.wait_until(lambda: net.answers(url, 10), url, 60)
    except StackError as error:
        raise StackError(f"{error}\n{net.fault(url, 10)}\nlogs are in {launcher.logs}") from None


def _tokens(secret: str) -> dict[str, str]:
    return {
        "USER_ID": _USER_ID,
        "USER_TOKEN": session.mint(secret, _USER_ID, "Demo Creator", "creator"),
        "ADMIN_ID": _ADMIN_ID,
        "ADMIN_TOKEN": session.mint(secret, _ADMIN_ID, "Demo Admin", "admin"),
    }


def _sign_in(api_url: str, token: str) -> None:
    session_of_it = {"cookie": settings.WORLD_ONLYFANS_COOKIE + _ACCOUNT_ID, "userAgent": "Mozilla/5.0 (demo)"}
    _post(api_url + _ACCOUNTS, token, {"accountId": _ACCOUNT_ID, "status": "active", "session": session_of_it})


def _take_everybody_in(api_url: str, token: str) -> None:
    """The flag of a rollout that is done: without one nobody is served here."""
    flag = {"name": _FLAG, "enabled": True, "rolloutPercentage": 100, "reason": "the local stack"}
    _post(api_url + _FLAGS, token, flag)


def _post(url: str, token: str, body: dict) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30):
            pass
    except urllib.error.HTTPError as error:
        raise StackError(f"{url}: {error}: {error.read().decode()}") from None


def _seed(database_url: str) -> None:
    if not paths.SEED.exists():
        return
    variables = {"ON_ERROR_STOP": "1", "user_id": _USER_ID, "admin_id": _ADMIN_ID}
    command = ["psql", "-q", "-X", *(f"--set={name}={value}" for name, value in variables.items())]
    if subprocess.run([*command, "-f", str(paths.SEED), database_url], check=False).returncode != 0:
        raise StackError("the demo data could not be written")
