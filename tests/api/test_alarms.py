"""The alarms as they are deployed: one goes off, and its topic is told."""

import datetime
import json
import time
import unittest
import uuid

import boto3
from listener import listen

_NAME = "huntaze-daily-cost-high"
_PATIENCE_SECONDS = 30


class Alarms(unittest.TestCase):
    def setUp(self):
        self.cloudwatch, self.sqs = boto3.client("cloudwatch"), boto3.client("sqs")

    def test_a_day_of_more_than_50_dollars_is_told_to_the_operators_topic(self):
        [alarm] = self.cloudwatch.describe_alarms(AlarmNames=[_NAME])["MetricAlarms"]
        self.assertEqual((alarm["Statistic"], alarm["Period"], alarm["Threshold"]), ("Sum", 86400, 50))
        self.assertNotEqual(alarm["StateValue"], "ALARM")
        [topic] = alarm["AlarmActions"]
        published = listen(f"test-{uuid.uuid4()}", topic)
        # Two hours ago, so that no other test counts it among what it spends.
        before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2)
        datum = {"MetricName": alarm["MetricName"], "Timestamp": before, "Value": 50.01}
        self.cloudwatch.put_metric_data(Namespace=alarm["Namespace"], MetricData=[datum])
        self.assertEqual((_NAME, "ALARM"), self.told(published))

    def told(self, published: str) -> tuple[str, str]:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (messages := self.sqs.receive_message(QueueUrl=published).get("Messages")):
            self.assertLess(time.monotonic(), deadline, "nobody was told")
            time.sleep(0.2)
        message = json.loads(json.loads(messages[0]["Body"])["Message"])
        return message["AlarmName"], message["NewStateValue"]


if __name__ == "__main__":
    unittest.main()
