"""The AWS emulator: one process that also runs the functions' binaries as child processes of its own."""

import functools
import os
import pathlib
import sys

import boto3
from botocore.config import Config

from stack import net
from stack.processes import Launcher

REGION = "us-east-1"
ACCESS_KEY_ID = "test"
SECRET_ACCESS_KEY = "test"


@functools.cache
def client(service: str, url: str):
    """A client of one service of the emulator at the URL, as the account's root."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(read_timeout=150, connect_timeout=5, retries={"total_max_attempts": 1}),
    )


def variables(url: str) -> dict[str, str]:
    """What an AWS client needs to find the emulator."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,  # boto3 reads this one only.
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    }


def start(launcher: Launcher, port: int | None = None, enforce_iam: bool = False) -> str:
    """A new, empty emulator, whose URL it returns.

    With `enforce_iam` the functions may do what their roles say and nothing else.
    """
    port = net.free_port(port)
    url = f"http://{net.HOST}:{port}"
    environment = _process_environment(launcher.folder, url, port, enforce_iam)
    command = [sys.executable, "-m", "ministack"]
    process = launcher.start("emulator", command, env=environment, cwd=launcher.folder)
    net.wait_until(lambda: net.answers(f"{url}/_ministack/ready"), "the AWS emulator", 60, process.alive)
    return url


def _process_environment(folder: pathlib.Path, url: str, port: int, enforce_iam: bool) -> dict[str, str]:
    # Functions inherit the emulator's environment, so it gets none of the caller's but the bare minimum: a function
    # must see the variables of its template and no others.
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "STATE_DIR": str(folder),
        "S3_DATA_DIR": str(folder),
        **variables(url),
        "AUTH": "true" if enforce_iam else "false",
        "BIND_HOST": net.HOST,
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "localhost",
        "MINISTACK_REGION": REGION,
        "MINISTACK_WORKER_THREADS": "256",
        "LAMBDA_ACCOUNT_CONCURRENCY": "1000",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
    }
