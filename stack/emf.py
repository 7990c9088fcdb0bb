"""CloudWatch's embedded metric format (EMF): log lines that AWS turns into metrics, and the emulator does not.

The format is AWS's "Specification: Embedded metric format". A line that says it is EMF and is not is refused here; AWS
would drop it in silence.
"""

import datetime
import json
import math
from collections.abc import Iterator
from typing import NamedTuple

# PutMetricData takes no more at once.
_MAX_DATA = 1000
# Of the specification: dimensions of a set, and values of a metric.
_MAX_DIMENSIONS = 30
_MAX_VALUES = 100

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


class MalformedError(Exception):
    """The line says that it is EMF and breaks the format."""


class Datum(NamedTuple):
    """One metric with one of its dimension sets, as PutMetricData takes it."""

    namespace: str
    content: dict


def parse(line: str) -> list[Datum]:
    """The metrics of a log line, each with every one of its dimension sets; none where the line is no EMF."""
    try:
        root = json.loads(line)
    except ValueError:
        return []
    if not isinstance(root, dict) or "_aws" not in root:
        return []
    try:
        return list(_data(root))
    except (KeyError, TypeError, OverflowError) as error:
        raise MalformedError(f"lacks {error}" if isinstance(error, KeyError) else str(error)) from error


def send(client, data: list[Datum]) -> None:
    """Puts the data to CloudWatch, in as few calls as it takes."""
    for namespace in dict.fromkeys(datum.namespace for datum in data):
        contents = [datum.content for datum in data if datum.namespace == namespace]
        for begin in range(0, len(contents), _MAX_DATA):
            client.put_metric_data(Namespace=namespace, MetricData=contents[begin : begin + _MAX_DATA])


def _data(root: dict) -> Iterator[Datum]:
    metadata = _typed(root["_aws"], dict, "_aws")
    milliseconds = _typed(metadata["Timestamp"], int, "Timestamp")
    timestamp = _EPOCH + datetime.timedelta(milliseconds=milliseconds)
    for directive in _typed(metadata["CloudWatchMetrics"], list, "CloudWatchMetrics"):
        namespace = _typed(directive["Namespace"], str, "Namespace")
        for metric in _typed(directive["Metrics"], list, "Metrics"):
            name = _typed(metric["Name"], str, "Name")
            content = {"MetricName": name, "Timestamp": timestamp, "Values": _values(root, name)}
            if "Unit" in metric:
                content["Unit"] = _typed(metric["Unit"], str, "Unit")
            for names in _typed(directive["Dimensions"], list, "Dimensions"):
                yield Datum(namespace, {**content, "Dimensions": _dimensions(root, names)})


def _values(root: dict, name: str) -> list[float]:
    values = root[name] if isinstance(root[name], list) else [root[name]]
    if not 1 <= len(values) <= _MAX_VALUES:
        raise TypeError(f"{name} has {len(values)} values")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise TypeError(f"{name} is no number")
    return values


def _dimensions(root: dict, names: list) -> list[dict[str, str]]:
    if len(_typed(names, list, "a dimension set")) > _MAX_DIMENSIONS:
        raise TypeError(f"a dimension set has {len(names)} dimensions")
    return [{"Name": name, "Value": _typed(root[name], str, name)} for name in names]


def _typed(value, kind: type, what: str):
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{what} is no {kind.__name__}")
    return value
