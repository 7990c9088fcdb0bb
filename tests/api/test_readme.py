"""The README's sections on costs and on messages, as a reader pastes them."""

import datetime
import json
import pathlib
import re
import subprocess
import time
import unittest

_README = pathlib.Path(__file__).parents[2] / "README.md"
# What is told goes over two queues, each of which is asked about once a second; the rest is for a busy machine.
_PATIENCE_SECONDS = 60
_MINUTE = datetime.timedelta(minutes=1)


class Costs(unittest.TestCase):
    def test_a_threshold_of_a_cent_and_a_campaign_raise_an_alert_that_is_there(self):
        raising, seeing, told, reading, _, budgets = _blocks("Costs")
        threshold, campaign = _answers(_run(raising))
        self.assertEqual((threshold["success"], threshold["data"]["threshold"]), (True, 0.01), threshold)
        self.assertGreater(campaign["data"]["detailedCosts"]["totalCost"], 0.01)

        # It is written behind the answer: until then there is nothing to acknowledge.
        _await(self, lambda: _answers(_run(seeing))[-1]["success"], "an alert")
        listed, seen = _answers(_run(seeing))
        [alert] = [alert for alert in listed["data"]["alerts"] if alert["id"] == seen["data"]["id"]]
        self.assertEqual((alert["type"], alert["threshold"]), ("daily_threshold", 0.01), alert)
        self.assertTrue(seen["data"]["acknowledged"], seen)
        self.assertGreater(alert["currentValue"], 0.01)

        _await(self, lambda: _run(told).count(alert["message"]) > 1, "an e-mail and a message to Slack")
        emails, calls = _answers(_run(told))
        [email] = [email for email in emails["messages"]["000000000000"] if alert["message"] in email["BodyText"]]
        self.assertEqual(email["To"], ["operators@huntaze.example"])
        self.assertEqual(len([call for call in calls if alert["message"] in json.dumps(call)]), 1)

        stats, rest = _first(_run(reading))
        breakdown, table = _first(rest)
        spent = stats["data"]["realTime"]["todayTotal"]
        self.assertGreater(spent, 0.01)
        self.assertGreaterEqual(breakdown["data"]["totalCost"], spent)
        self.assertTrue(table.startswith("date,provider,model,requestType,"), table)
        self.assertIn("campaign_execution", table)

        budget, refused, own, lifted = _answers(_run(budgets))
        self.assertEqual(
            (refused["code"], refused["limit"]["name"]), ("cost_limit_exceeded", "user_day_budget"), refused
        )
        self.assertEqual(own["data"]["budgets"], [budget["data"]])
        self.assertIsNone(lifted["data"]["limit"])


class Messages(unittest.TestCase):
    def test_ten_messages_go_and_the_eleventh_waits_with_its_time(self):
        sending, looking, _, _ = _blocks("Messages")
        sent = _answers(_run(sending))
        self.assertEqual([answer["success"] for answer in sent], [True] * 11, sent)
        expected = [_moment(answer["data"]["queueInfo"]["expectedAt"]) for answer in sent]
        self.assertLess(expected[9] - expected[0], _MINUTE / 2, expected)
        self.assertGreater(expected[10] - expected[0], _MINUTE * 3 / 4, expected)
        _await(self, lambda: len(_answers(_run(looking))[2]) >= 10, "ten messages at their fans")
        listed, stats, reached = _answers(_run(looking))
        states = [message["status"] for message in listed["data"]["messages"]]
        self.assertGreaterEqual(states.count("sent"), 10, states)
        arrivals = sorted(_moment(message["at"]) for message in reached)
        # The eleventh is there only if this took a minute.
        for eleventh, first in zip(arrivals[10:], arrivals, strict=False):
            self.assertGreaterEqual(eleventh - first, _MINUTE)
        self.assertEqual(len({message["recipient"] for message in reached}), len(reached), reached)
        [account] = [account for account in stats["data"]["accounts"] if account["accountId"] == "acc-ana"]
        [minute] = [layer for layer in account["rateLimit"]["layers"] if layer["name"] == "account_minute"]
        self.assertEqual(minute["limit"], 10)
        self.assertGreaterEqual(stats["data"]["recipients"], 10)

    def test_texts_are_judged_as_somebody_types_and_administrators_are_told(self):
        *_, judging = _blocks("Messages")
        disguised, fine, report = _answers(_run(judging))
        self.assertEqual(disguised["data"]["verdict"], "block", disguised)
        self.assertEqual((fine["data"]["verdict"], fine["data"]["findings"]), ("allow", []), fine)
        self.assertGreater(report["data"]["judged"], 0, report)


def _moment(text: str) -> datetime.datetime:
    # Python 3.11 reads no more than microseconds.
    return datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


def _blocks(section: str) -> list[str]:
    """The commands of a section."""
    text = re.search(rf"^## {section}\n(.*?)^## ", _README.read_text(), re.MULTILINE | re.DOTALL)
    return re.findall(r"^```sh\n(.*?)^```$", text[1], re.MULTILINE | re.DOTALL)


def _await(test: unittest.TestCase, done, what: str):
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        test.assertLess(time.monotonic(), deadline, f"no sign of {what}")
        time.sleep(0.2)


def _run(commands: str) -> str:
    """What the commands print; the variables of the stack are in the environment already."""
    commands = commands.replace(". .local/stack.env\n", "")
    done = subprocess.run(["sh", "-eu", "-c", commands], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def _first(text: str) -> tuple[dict, str]:
    """The JSON that a text begins with, and what follows."""
    value, end = json.JSONDecoder().raw_decode(text)
    return value, text[end:].lstrip()


def _answers(text: str) -> list:
    """JSON behind JSON."""
    answers = []
    while text:
        answer, text = _first(text)
        answers.append(answer)
    return answers


if __name__ == "__main__":
    unittest.main()
