"""A notification on the deployed queue, as every sender puts it: one e-mail, one message to Slack, one publication."""

import json
import os
import time
import unittest
import urllib.request
import uuid

import boto3
from listener import listen

_NOTIFICATIONS = "huntaze-notifications-production"
_DELIVERIES = "huntaze-notification-deliveries"
_TOPIC = "huntaze-cost-alerts"
_FEEDBACK = "huntaze-email-feedback"
_CHANNELS = ["email", "slack", "sns", "in_app"]
# A message is handed to its function within a second; the rest is for a busy machine, and for a second attempt.
_PATIENCE_SECONDS = 60


class Notifications(unittest.TestCase):
    def setUp(self):
        self.sqs, self.sns, self.dynamodb = boto3.client("sqs"), boto3.client("sns"), boto3.client("dynamodb")
        self.id = f"test-{uuid.uuid4()}"
        self.queue = self.sqs.get_queue_url(QueueName=_NOTIFICATIONS)["QueueUrl"]

    def test_a_notification_put_twice_is_one_email_one_message_and_one_publication(self):
        published = listen(self.id, self.topic(_TOPIC))
        for _ in range(2):
            self.put("operators", _CHANNELS)
        for step in [*_CHANNELS, "email_job"]:
            self.await_state(step, "sent")
        self.await_empty(self.queue)

        [email] = [email for email in _emails() if email["Subject"] == self.title()]
        self.assertEqual(email["To"], ["operators@huntaze.example"])
        self.assertIn("width=device-width", email["BodyHtml"])
        slack = [call for call in _slack_calls() if self.id in call["body"]["text"]]
        self.assertEqual([call["outcome"] for call in slack], [{"kind": "answered", "status": 200}])
        received = self.sqs.receive_message(QueueUrl=published, MaxNumberOfMessages=10).get("Messages", [])
        self.assertEqual([json.loads(json.loads(m["Body"])["Message"])["id"] for m in received], [self.id])

    def test_an_email_that_bounced_for_good_is_the_last_to_its_address(self):
        address = f"{self.id}@mail.example"
        self.dynamodb.put_item(TableName="huntaze-users", Item={"id": {"S": self.id}, "email": {"S": address}})
        bounce = {"bounceType": "Permanent", "bouncedRecipients": [{"emailAddress": address}]}
        before = self.suppressed()
        event = json.dumps({"eventType": "Bounce", "bounce": bounce})
        self.sns.publish(TopicArn=self.topic(_FEEDBACK), Message=event)
        self.await_(lambda: self.suppressed() > before, "the suppression")
        self.put({"user": self.id}, ["email"])
        self.await_state("email", "skipped")

    def test_a_message_that_cannot_be_read_ends_in_the_dead_letter_queue(self):
        dead = self.sqs.get_queue_url(QueueName=f"{_NOTIFICATIONS}-dlq")["QueueUrl"]
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=self.id)

        def is_dead() -> bool:
            found = self.sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10, VisibilityTimeout=0)
            return self.id in [message["Body"] for message in found.get("Messages", [])]

        self.await_(is_dead, "the dead letter")

    def title(self) -> str:
        return f"The costs of {self.id}"

    def put(self, audience: str | dict, channels: list[str]):
        body = {
            "id": self.id,
            "kind": "test",
            "severity": "warning",
            "audience": audience,
            "channels": channels,
            "title": self.title(),
            "text": "More was spent than somebody wanted.",
            "facts": [{"name": "Spent", "value": "$50.01"}],
            "timestamp": "2026-11-22T04:05:06Z",
        }
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps(body))

    def topic(self, name: str) -> str:
        topics = [topic["TopicArn"] for topic in self.sns.list_topics()["Topics"]]
        [arn] = [arn for arn in topics if arn.endswith(f":{name}")]
        return arn

    def suppressed(self) -> int:
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=_DELIVERIES)
        return sum(item["id"]["S"].startswith("suppressed#") for page in pages for item in page["Items"])

    def await_state(self, step: str, wanted: str):
        key = {"id": {"S": f"{self.id}#{step}"}}

        def state() -> str | None:
            item = self.dynamodb.get_item(TableName=_DELIVERIES, Key=key).get("Item", {})
            return item.get("state", {}).get("S")

        self.await_(lambda: state() == wanted, f"{step} to be {wanted}")

    def await_empty(self, queue: str):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

        def is_empty() -> bool:
            counts = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
            return all(counts[name] == "0" for name in names)

        self.await_(is_empty, "an empty queue")

    def await_(self, done, what: str):
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not done():
            self.assertLess(time.monotonic(), deadline, f"no sign of {what}")
            time.sleep(0.2)


def _get(url: str):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def _emails() -> list[dict]:
    accounts = _get(f"{os.environ['AWS_ENDPOINT_URL']}/_ministack/ses/messages")["messages"]
    return [email for emails in accounts.values() for email in emails]


def _slack_calls() -> list[dict]:
    return _get(f"{os.environ['WORLD_URL']}/control/calls?operation=webhook")


if __name__ == "__main__":
    unittest.main()
