"""What a request leaves behind in CloudWatch, read as an alarm or a dashboard reads it."""

import datetime
import json
import os
import time
import unittest
import urllib.request

import boto3

_BRIEF = {"type": "content_planning", "platforms": ["onlyfans"], "data": {"theme": "summer nights"}}
_COSTS = "Huntaze/AI/Costs"
_AZURE = {"Provider": "azure"}
_CAMPAIGNS = {"Function": "huntaze-campaigns-hybrid"}
# The collector looks for new lines twice a second; the rest is for a busy machine.
_PATIENCE_SECONDS = 30


class Metrics(unittest.TestCase):
    def setUp(self):
        self.cloudwatch = boto3.client("cloudwatch")
        self.begun = datetime.datetime.now(datetime.UTC).replace(microsecond=0)

    def test_a_request_is_counted_with_the_cost_of_its_answer(self):
        answer = _post("/api/v2/campaigns/hybrid", _BRIEF)
        self.assertEqual(answer["data"]["detailedCosts"]["provider"], _AZURE["Provider"])
        cost, tokens = answer["data"]["detailedCosts"]["totalCost"], answer["metrics"]["cost"]["tokens"]
        self.assertGreater(cost, 0)

        self.assert_one_sample(_COSTS, "AIProviderCost", _AZURE, cost)
        self.assert_one_sample(_COSTS, "AITokenUsage", _AZURE, tokens)
        self.assert_one_sample(_COSTS, "AIRequestDuration", _AZURE)
        self.assert_one_sample("Huntaze/Orchestrator", "Requests", _CAMPAIGNS, 1)

    def assert_one_sample(self, namespace: str, name: str, dimensions: dict[str, str], value: float | None = None):
        """It is there once with the dimensions and once without any."""
        samples, total = self.read_once_there(namespace, name, dimensions)
        self.assertEqual(samples, 1, name)
        if value is not None:
            self.assertAlmostEqual(total, value, delta=1e-9, msg=name)
        # Both are put at once, so that the second is there when the first is.
        listed = self.cloudwatch.list_metrics(Namespace=namespace, MetricName=name)["Metrics"]
        self.assertIn([], [metric["Dimensions"] for metric in listed], name)
        if namespace == _COSTS:
            # Asked without dimensions, the emulator adds up all of them; CloudWatch would say 1 and the value.
            self.assertEqual(self.read(namespace, name, {}), (2, 2 * total), name)

    def read_once_there(self, namespace: str, name: str, dimensions: dict[str, str]) -> tuple[float, float]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (found := self.read(namespace, name, dimensions))[0] and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def read(self, namespace: str, name: str, dimensions: dict[str, str]) -> tuple[float, float]:
        """How many samples there were since this test began, and their sum."""
        answer = self.cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=self.begun,
            EndTime=self.begun + datetime.timedelta(hours=1),
            Period=3600,
            Statistics=["SampleCount", "Sum"],
        )
        points = answer["Datapoints"]
        return sum(point["SampleCount"] for point in points), sum(point["Sum"] for point in points)


def _post(path: str, body: dict) -> dict:
    headers = {"Authorization": f"Bearer {os.environ['USER_TOKEN']}", "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["API_URL"] + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=35) as answer:
        return json.load(answer)


if __name__ == "__main__":
    unittest.main()
