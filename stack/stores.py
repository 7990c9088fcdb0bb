"""PostgreSQL and Redis as private processes on loopback, with nothing kept once they end.

Durability is switched off: these stores live for one run. The data folder is under the system's temporary folder,
because PostgreSQL does not run as root and its own user may not enter the folder of the clone.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess

from stack import net
from stack.errors import StackError
from stack.processes import Launcher

_DATABASE = "huntaze"
_POSTGRES_SETTINGS = {
    "listen_addresses": net.HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


def start_postgres(launcher: Launcher, port: int | None = None) -> str:
    """A new, empty PostgreSQL with one database, whose URL it returns."""
    binaries = postgres_binaries()
    if binaries is None:
        raise StackError("PostgreSQL's server is not installed")
    user = "postgres" if os.geteuid() == 0 else None
    data = launcher.folder / "postgres"
    data.mkdir(mode=0o700)
    if user:
        shutil.chown(data, user, user)
    _initdb(binaries, data, user, launcher.log("postgres"))

    port = net.free_port(port)
    settings = [f"--{name}={value}" for name, value in _POSTGRES_SETTINGS.items()]
    process = launcher.start(
        "postgres",
        [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *settings],
        cwd=data,
        stop_signal=signal.SIGINT,  # SIGTERM would wait for every client to leave.
        user=user,
    )
    server = ["-h", net.HOST, "-p", str(port), "-U", _DATABASE]
    is_ready = [str(binaries / "pg_isready"), "-q", "-d", "postgres", *server]
    net.wait_until(lambda: subprocess.run(is_ready, check=False).returncode == 0, "PostgreSQL", 30, process.alive)
    subprocess.run([str(binaries / "createdb"), *server, _DATABASE], check=True)
    return f"postgres://{_DATABASE}@{net.HOST}:{port}/{_DATABASE}"


def _initdb(binaries: pathlib.Path, data: pathlib.Path, user: str | None, log: pathlib.Path) -> None:
    command = [str(binaries / "initdb"), "--no-sync", "-D", str(data), "-U", _DATABASE]
    command += ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
    with log.open("ab") as output:
        done = subprocess.run(
            command, stdout=output, stderr=output, cwd=data, user=user, group=user, extra_groups=[] if user else None
        )
    if done.returncode != 0:
        raise StackError(f"initdb failed, see {log}")


def start_redis(launcher: Launcher, port: int | None = None) -> str:
    """A new, empty Redis that writes nothing to disk; returns its URL."""
    server = shutil.which("redis-server")
    if server is None:
        raise StackError("redis-server is not installed")
    port = net.free_port(port)
    command = [server, "--bind", net.HOST, "--port", str(port), "--dir", str(launcher.folder)]
    # DEBUG is how a test has it die.
    command += ["--save", "", "--appendonly", "no", "--enable-debug-command", "local"]
    process = launcher.start("redis", command)
    net.wait_until(lambda: net.accepts(port), "Redis", 15, process.alive)
    return f"redis://{net.HOST}:{port}"


def postgres_binaries() -> pathlib.Path | None:
    """The folder of the newest installed server: Debian keeps its programs out of PATH."""
    debian = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=_version)
    in_path = [pathlib.Path(initdb).parent] if (initdb := shutil.which("initdb")) else []
    return next((folder for folder in [*reversed(debian), *in_path] if (folder / "initdb").exists()), None)


def _version(binaries: pathlib.Path) -> list[int]:
    """Of a folder such as `15/bin` or `9.6/bin`."""
    return [int(number) for number in re.findall(r"\d+", binaries.parent.name)]
