"""`python -m stack`: the commands behind the Makefile."""

import argparse
import os
import pathlib
import sys

from stack.errors import StackError


def main() -> int:
    """Runs one command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build, start and deploy everything, then follow the logs")
    up.add_argument("--detach", action="store_true", help="return once it serves")
    commands.add_parser("stop", help="end what `up` started")
    with_stores = commands.add_parser("run-with-stores", help="run a command beside private stores")
    with_stack = commands.add_parser("run-with-stack", help="run a command beside a private stack of what is built")
    for beside in (with_stores, with_stack):
        beside.add_argument("argv", nargs="+", metavar="COMMAND")
    collect = commands.add_parser(
        "collect-logs", help="copy the functions' logs, send their metrics (started by a stack)"
    )
    collect.add_argument("url", help="the emulator")
    collect.add_argument("folder", type=pathlib.Path, help="where the log goes")
    commands.add_parser("install-compiler", help="install what cargo needs, where it is missing")
    commands.add_parser("install-valgrind", help="install what `make bench` counts instructions with")
    commands.add_parser("drill", help="roll out and back on the running stack, and print what requests saw of it")
    commands.add_parser("lint", help="check template.yaml and openapi.yaml")
    _stay_local()
    try:
        return _run(parser.parse_args())
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _stay_local() -> None:
    """The caller's proxy and AWS profile are not for what listens on loopback."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")  # Programs that read both prefer the first.
    no_proxy = ",".join(filter(None, [given, "127.0.0.1", "localhost"]))
    os.environ |= {"no_proxy": no_proxy, "NO_PROXY": no_proxy}
    os.environ.pop("AWS_PROFILE", None)


def _run(arguments: argparse.Namespace) -> int:
    # Imported one by one: what stops a stack needs neither AWS's libraries nor the linter.
    match arguments.command:
        case "up":
            from stack import up

            up.up(arguments.detach)
        case "stop":
            from stack import up

            up.stop()
        case "run-with-stores":
            from stack import beside

            return beside.run_with_stores(arguments.argv)
        case "run-with-stack":
            from stack import beside

            return beside.run_with_stack(arguments.argv)
        case "collect-logs":
            from stack import logs

            logs.collect(arguments.url, arguments.folder)
        case "install-compiler":
            from stack import install

            install.install_compiler()
        case "install-valgrind":
            from stack import install

            install.install_valgrind()
        case "drill":
            from stack import drill, up

            drill.run(up.read_env())
        case "lint":
            from stack import lint

            findings = lint.lint()
            print("\n".join(findings) or "no findings")
            return 1 if findings else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
