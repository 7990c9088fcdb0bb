"""Deployment packages: a binary of the dev build, stripped, as `bootstrap` in a zip."""

import hashlib
import os
import pathlib
import subprocess
import zipfile

from stack import paths
from stack.errors import StackError


def package(binary: str) -> pathlib.Path:
    """The zip of a binary, made again only when the binary is newer."""
    source = paths.BINARIES / binary
    if not source.exists():
        raise StackError(f"{source} is missing: no such binary in the workspace?")
    target = paths.PACKAGES / f"{binary}.zip"
    if not target.exists() or target.stat().st_mtime_ns <= source.stat().st_mtime_ns:
        paths.PACKAGES.mkdir(parents=True, exist_ok=True)
        _make(source, target)
    return target


def _make(source: pathlib.Path, target: pathlib.Path) -> None:
    stripped = target.with_suffix(".bootstrap")
    subprocess.run(["strip", "-o", stripped, source], check=True)
    unfinished = target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(stripped, "bootstrap")
    stripped.unlink()
    os.replace(unfinished, target)


def digest(package_file: pathlib.Path) -> str:
    """Names the package by its content, so that an unchanged function is not deployed again."""
    return hashlib.sha256(package_file.read_bytes()).hexdigest()[:16]
