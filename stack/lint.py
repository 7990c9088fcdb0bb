"""Checks of template.yaml: cfn-lint, AWS's own SAM translation, and the schedules that neither looks into; and of
openapi.yaml.
"""

import pathlib
import re
import subprocess
import sys

from samtranslator.public.exceptions import InvalidDocumentException

from stack import openapi, paths, template
from stack.emulator import REGION

_RATE = re.compile(r"rate\((?:1 (?:minute|hour|day)|(?:[2-9]|[1-9]\d+) (?:minutes|hours|days))\)")
_AT = re.compile(r"at\(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\)")

_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_DAYS = "SUN MON TUE WED THU FRI SAT".split()
# Name, lowest and highest number, names of numbers, and what else a day may be.
_CRON_FIELDS = [
    ("minutes", 0, 59, [], r"(?!)"),
    ("hours", 0, 23, [], r"(?!)"),
    ("day of month", 1, 31, [], r"\?|L|LW|\d{1,2}W"),
    ("month", 1, 12, _MONTHS, r"(?!)"),
    ("day of week", 1, 7, _DAYS, r"\?|L|[1-7]L|[1-7]#[1-5]"),
    ("year", 1970, 2199, [], r"(?!)"),
]


def lint() -> list[str]:
    """Everything that is wrong with the template and with the API's description."""
    return [*_cfn_lint(), *_translation(), *_schedules(), *openapi.faults()]


def _cfn_lint() -> list[str]:
    program = pathlib.Path(sys.executable).with_name("cfn-lint")
    command = [str(program), "--format", "parseable", "--regions", REGION, "--", str(paths.TEMPLATE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines() if done.returncode != 0 else []


def _translation() -> list[str]:
    source = template.load(paths.TEMPLATE)
    code = dict.fromkeys(template.functions(source), "s3://bucket/package.zip")
    try:
        template.expand_http_apis(template.translate(template.with_code(source, code), {}, REGION))
    except InvalidDocumentException as error:
        return [f"SAM: {cause.message}" for cause in error.causes]
    return []


def _schedules() -> list[str]:
    found = _values_of(template.load(paths.TEMPLATE), "ScheduleExpression")
    return [f"schedule {expression!r}: {fault}" for expression in found if (fault := schedule_fault(expression))]


def _values_of(node: object, key: str) -> list[str]:
    if isinstance(node, dict):
        own = [node[key]] if isinstance(node.get(key), str) else []
        return own + [value for child in node.values() for value in _values_of(child, key)]
    if isinstance(node, list):
        return [value for child in node for value in _values_of(child, key)]
    return []


def schedule_fault(expression: str) -> str | None:
    """What EventBridge Scheduler would refuse, or None."""
    if expression.startswith("cron(") and expression.endswith(")"):
        return _cron_fault(expression[5:-1].split())
    if _RATE.fullmatch(expression) or _AT.fullmatch(expression):
        return None
    return "neither rate(), cron() nor at() as EventBridge Scheduler takes it"


def _cron_fault(fields: list[str]) -> str | None:
    if len(fields) != len(_CRON_FIELDS):
        return f"cron() has {len(_CRON_FIELDS)} fields, not {len(fields)}"
    if (fields[2] == "?") == (fields[4] == "?"):
        return "exactly one of day of month and day of week is `?`"
    for text, (name, low, high, names, special) in zip(fields, _CRON_FIELDS, strict=True):
        if not all(re.fullmatch(special, part) or _is_span(part, low, high, names) for part in text.split(",")):
            return f"{text!r} is no {name}"
    return None


def _is_span(text: str, low: int, high: int, names: list[str]) -> bool:
    """`*`, a value, a range, each with an optional step."""
    span, slash, step = text.partition("/")
    if slash and not (step.isdigit() and 0 < int(step) <= high):
        return False
    if span == "*":
        return True
    ends = [names.index(end) + low if end in names else int(end) if end.isdigit() else -1 for end in span.split("-")]
    return len(ends) <= 2 and all(low <= end <= high for end in ends)
