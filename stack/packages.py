"""Deployment packages: a binary of the dev build, stripped, as `bootstrap` in a zip."""

import hashlib
import os
import pathlib
import subprocess
import tempfile
import zipfile

from stack import paths
from stack.errors import StackError


def package(binary: str) -> pathlib.Path:
    """The zip of a binary, made again only when the binary is another."""
    source = paths.BINARIES / binary
    if not source.exists():
        raise StackError(f"{source} is missing: no such binary in the workspace?")
    target = paths.PACKAGES / f"{binary}.zip"
    # The zip carries its binary's time. Newer or older is no test: cargo brings earlier builds back as they were.
    built = source.stat().st_mtime_ns
    if not target.exists() or target.stat().st_mtime_ns != built:
        paths.PACKAGES.mkdir(parents=True, exist_ok=True)
        _make(source, target, built)
    return target


def _make(source: pathlib.Path, target: pathlib.Path, built: int) -> None:
    # Apart and then moved: `make run` and `make test` of one clone may both be packing.
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        stripped = pathlib.Path(folder) / "bootstrap"
        subprocess.run(["strip", "-o", stripped, source], check=True)
        packed = pathlib.Path(folder) / target.name
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(stripped, "bootstrap")
        os.utime(packed, ns=(built, built))
        packed.replace(target)


def digest(package_file: pathlib.Path) -> str:
    """Names the package by its content, so that an unchanged function is not deployed again."""
    return hashlib.sha256(package_file.read_bytes()).hexdigest()[:16]
