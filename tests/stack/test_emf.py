"""Log lines as the functions write them, turned into what PutMetricData takes."""

import datetime
import json
import unittest

from stack import emf

_COSTS = (
    '{"_aws":{"Timestamp":1795256430456,"CloudWatchMetrics":[{"Namespace":"Huntaze/AI/Costs",'
    '"Dimensions":[["Provider"],[]],"Metrics":[{"Name":"AIProviderCost","Unit":"None"},'
    '{"Name":"AITokenUsage","Unit":"Count"},{"Name":"AIRequestDuration","Unit":"Milliseconds"}]}]},'
    '"Provider":"azure","AIProviderCost":0.004675,"AITokenUsage":309,"AIRequestDuration":812,"trace":"5759e988"}'
)


def _line(**changes) -> str:
    """The same line with changed members; those that are None are left out."""
    members = {**json.loads(_COSTS), **changes}
    return json.dumps({name: value for name, value in members.items() if value is not None})


class Parse(unittest.TestCase):
    def test_each_metric_is_put_with_each_dimension_set(self):
        data = emf.parse(_COSTS)
        azure = [{"Name": "Provider", "Value": "azure"}]
        timestamp = datetime.datetime(2026, 11, 21, 10, 20, 30, 456000, datetime.UTC)
        expected = [
            {"MetricName": name, "Timestamp": timestamp, "Values": [value], "Unit": unit, "Dimensions": dimensions}
            for name, value, unit in [
                ("AIProviderCost", 0.004675, "None"),
                ("AITokenUsage", 309, "Count"),
                ("AIRequestDuration", 812, "Milliseconds"),
            ]
            for dimensions in (azure, [])
        ]
        self.assertEqual([datum.content for datum in data], expected)
        self.assertEqual({datum.namespace for datum in data}, {"Huntaze/AI/Costs"})

    def test_a_metric_may_have_many_values_and_no_unit(self):
        directive = {"Namespace": "n", "Dimensions": [[]], "Metrics": [{"Name": "Requests"}]}
        line = _line(_aws={"Timestamp": 1, "CloudWatchMetrics": [directive]}, Requests=[1, 2.5])
        (datum,) = emf.parse(line)
        self.assertEqual(datum.content["Values"], [1, 2.5])
        self.assertNotIn("Unit", datum.content)

    def test_other_lines_have_no_metrics(self):
        for line in ["", "panicked at", "[1]", "null", '"_aws"', '{"level":"INFO","message":"request"}', "{"]:
            self.assertEqual(emf.parse(line), [], line)

    def test_a_line_that_breaks_the_format_is_refused(self):
        metadata = json.loads(_COSTS)["_aws"]
        (directive,) = metadata["CloudWatchMetrics"]
        for fault, changes in {
            "no value": {"AIProviderCost": None},
            "no dimension": {"Provider": None},
            "a dimension that is no text": {"Provider": 7},
            "text for a number": {"AITokenUsage": "309"},
            "a truth value for a number": {"AITokenUsage": True},
            "no number": {"AITokenUsage": float("nan")},
            "no values": {"AITokenUsage": []},
            "too many values": {"AITokenUsage": [1] * 101},
            "no metadata": {"_aws": 1},
            "no timestamp": {"_aws": {"CloudWatchMetrics": [directive]}},
            "a time that is text": {"_aws": {**metadata, "Timestamp": "2026-11-21"}},
            "a time that cannot be": {"_aws": {**metadata, "Timestamp": 10**20}},
            "no directives": {"_aws": {"Timestamp": 1}},
            "no namespace": {"_aws": {**metadata, "CloudWatchMetrics": [{**directive, "Namespace": None}]}},
            "dimensions without sets": {
                "_aws": {**metadata, "CloudWatchMetrics": [{**directive, "Dimensions": ["x"]}]}
            },
        }.items():
            with self.subTest(fault), self.assertRaises(emf.MalformedError):
                emf.parse(_line(**changes))


class Send(unittest.TestCase):
    def test_at_most_a_thousand_data_of_one_namespace_go_at_once(self):
        calls = []

        class Client:
            def put_metric_data(self, Namespace, MetricData):
                calls.append((Namespace, len(MetricData)))

        emf.send(Client(), [emf.Datum("a", {})] * 2001 + [emf.Datum("b", {})])
        self.assertEqual(calls, [("a", 1000), ("a", 1000), ("a", 1), ("b", 1)])


if __name__ == "__main__":
    unittest.main()
