"""The deployed report of a day: its files in the bucket that the template makes, and what the operators get."""

import csv
import io
import json
import time
import unittest

import boto3
from botocore.config import Config

_FUNCTION = "huntaze-cost-daily-report"
_BUCKET = "huntaze-cost-reports"
_DELIVERIES = "huntaze-notification-deliveries"
_DAY = "2024-02-29"
_KEY = f"cost-reports/2024/02/{_DAY}"
# As for notifications: within a second, and the rest is for a busy machine.
_PATIENCE_SECONDS = 60


class Reports(unittest.TestCase):
    def setUp(self):
        self.lambda_ = boto3.client("lambda", config=Config(retries={"total_max_attempts": 1}))
        self.s3, self.dynamodb = boto3.client("s3"), boto3.client("dynamodb")
        [self.bucket] = [name for name in self.buckets() if name.startswith(_BUCKET)]

    def test_a_day_is_kept_in_the_bucket_and_told_to_the_operators(self):
        answer = self.invoke({"day": _DAY})
        self.assertNotIn("FunctionError", answer, answer)
        document = json.loads(self.read(f"{_KEY}.json", "application/json"))
        self.assertEqual((document["day"], document["total"]["requests"]), (_DAY, 0))
        rows = list(csv.DictReader(io.StringIO(self.read(f"{_KEY}.csv", "text/csv; charset=utf-8; header=present"))))
        self.assertEqual([row["part"] for row in rows], ["total", "provider", "provider", "monthToDate"])
        for step in ["slack", "email_job", "email"]:
            self.await_sent(f"cost-daily-report:{_DAY}#{step}")

    def test_a_day_that_is_not_over_fails_the_invocation(self):
        answer = self.invoke({"day": time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86_400))})
        self.assertEqual(answer["FunctionError"], "Unhandled")
        self.assertIn("/day: must be a day that is over", json.load(answer["Payload"])["errorMessage"])

    def test_the_bucket_is_private_encrypted_and_versioned(self):
        blocked = self.s3.get_public_access_block(Bucket=self.bucket)["PublicAccessBlockConfiguration"]
        self.assertEqual(set(blocked.values()), {True})
        encryption = self.s3.get_bucket_encryption(Bucket=self.bucket)["ServerSideEncryptionConfiguration"]
        self.assertEqual(encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"], "AES256")
        self.assertEqual(self.s3.get_bucket_versioning(Bucket=self.bucket)["Status"], "Enabled")

    def buckets(self) -> list[str]:
        return [bucket["Name"] for bucket in self.s3.list_buckets()["Buckets"]]

    def invoke(self, event: dict) -> dict:
        return self.lambda_.invoke(FunctionName=_FUNCTION, Payload=json.dumps(event))

    def read(self, key: str, kind: str) -> str:
        found = self.s3.get_object(Bucket=self.bucket, Key=key)
        self.assertEqual(found["ContentType"], kind)
        return found["Body"].read().decode()

    def await_sent(self, delivery: str):
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            item = self.dynamodb.get_item(TableName=_DELIVERIES, Key={"id": {"S": delivery}}).get("Item", {})
            if item.get("state", {}).get("S") == "sent":
                return
            self.assertLess(time.monotonic(), deadline, f"{delivery} is not sent: {item}")
            time.sleep(0.2)


if __name__ == "__main__":
    unittest.main()
