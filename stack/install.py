"""Debian's packages of what is missing. No service is started, and nothing that is there is touched."""

import contextlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

from stack import stores
from stack.errors import StackError

_POLICY = pathlib.Path("/usr/sbin/policy-rc.d")
_NO_CLUSTER = pathlib.Path("/etc/postgresql-common/createcluster.d/huntaze.conf")


def _missing_compiler() -> list[str]:
    """What cargo links with, and what strips the packages of the functions."""
    missing = []
    if shutil.which("cc") is None:
        missing += ["gcc", "libc6-dev"]
    if shutil.which("strip") is None:
        missing.append("binutils")
    return missing


def _missing_stores() -> list[str]:
    missing = []
    if stores.postgres_binaries() is None or shutil.which("psql") is None:
        missing.append("postgresql")
    if shutil.which("redis-server") is None:
        missing.append("redis-server")
    return missing


def install_compiler() -> None:
    """Installs what cargo needs beside Rust, where it is missing."""
    _install(_missing_compiler())


def install_valgrind() -> None:
    """Installs what the benchmark counts instructions with, where it is missing."""
    _install([] if shutil.which("valgrind") else ["valgrind"])


def install_missing() -> None:
    """Installs the compiler, PostgreSQL and Redis where they are missing."""
    _install([*_missing_compiler(), *_missing_stores()])


def _install(missing: list[str]) -> None:
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise StackError(f"please install {', '.join(missing)}, or run this once as root on Debian")
    print(f"installing {' '.join(missing)} …", flush=True)
    apt_get = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _services_stay_off():
        subprocess.run([*apt_get, "update"], check=True, env=environment, timeout=600)
        install = [*apt_get, "install", "--yes", "--no-install-recommends", *missing]
        subprocess.run(install, check=True, env=environment, timeout=1200)


@contextlib.contextmanager
def _services_stay_off() -> Iterator[None]:
    """Debian would start a PostgreSQL cluster and a Redis of its own: this stack has private ones."""
    written = []
    try:
        for path, text, mode in [
            (_POLICY, "#!/bin/sh\nexit 101\n", 0o755),
            (_NO_CLUSTER, "create_main_cluster = false\n", 0o644),
        ]:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                path.chmod(mode)
                written.append(path)
        yield
    finally:
        for path in written:
            path.unlink(missing_ok=True)
