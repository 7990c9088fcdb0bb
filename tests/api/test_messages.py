"""Messages to fans through the deployed stack, while its parts die.

The windows of the limits are scaled down, where a test would only wait, by the configuration of the sender alone; it
gets its own back.
"""

import collections
import concurrent.futures
import datetime
import json
import os
import re
import signal
import subprocess
import time
import unittest
import urllib.parse
import urllib.request
import uuid

import boto3
import workers

from stack import session, settings

_SENDER = "huntaze-message-sender"
_SWEEPER = "huntaze-message-sweeper"
_MESSAGES = "/api/v2/onlyfans/messages"
_ACCOUNTS = "/api/v2/onlyfans/accounts"
# So many requests at a time.
_CLIENTS = 8
# The ends of 500 messages take half of it on a machine with nothing else to do.
_PATIENCE_SECONDS = 240
_KILLS = 10
# Some of them wait for a call then, some are between two statements, and some have nothing to do.
_KILLED_AT_ONCE = 3
# Redis stands still for so long, and is away for so long behind its crash.
_STANDSTILL = datetime.timedelta(seconds=30)
_OUTAGE = datetime.timedelta(seconds=9)

_CONFIGURATION = {
    "ONLYFANS_TIMEOUT_MS": "1500",
    "MESSAGE_HOLD_MARGIN_MS": "1500",
    "MESSAGE_LEASE_MARGIN_MS": "3000",
    "MESSAGE_LOOK_EVERY_MS": "500",
    "RATE_LIMIT_SECOND_MS": "500",
    "RATE_LIMIT_MINUTE_MS": "2000",
    "RATE_LIMIT_HOUR_MS": "8000",
    "RATE_LIMIT_DAY_MS": "20000",
    "RATE_LIMIT_ACCOUNT_PER_MINUTE": "6",
    "RATE_LIMIT_ACCOUNT_PER_HOUR": "16",
    "RATE_LIMIT_GLOBAL_PER_SECOND": "25",
}
# A call and its margin.
_HOLD = datetime.timedelta(seconds=3)
# So many messages in so many seconds: of an account, and of all.
_ACCOUNT_LIMITS = [(6, 2), (16, 8)]
_GLOBAL_LIMIT = (25, 0.5)

# In the order in which they go, each with a message type that it fits.
_PRIORITIES = {"critical": "follow_up", "high": "welcome", "medium": "follow_up", "low": "promotional"}
_ENDS = ["sent", "failed", "unknown"]


class Account:
    """An account, what was asked to be sent from it, and what the API says of that."""

    def __init__(self, user: str, name: str):
        self.user, self.name = user, name
        self.token = session.mint(os.environ["NEXTAUTH_SECRET"], user, "Test Creator", "creator")
        # By the messages' ids, the rank by which they are to go.
        self.sent: dict[str, tuple[int, int]] = {}

    def change(self, **change):
        """As its user, but what only an administrator sets."""
        token = os.environ["ADMIN_TOKEN"] if "limits" in change else self.token
        _call(token, _ACCOUNTS, {"accountId": self.name, **change})

    def send(self, priority: str = "medium"):
        """To a fan who gets no other message. It has to be taken on, whatever is away."""
        number = len(self.sent)
        body = {"accountId": self.name, "recipientId": f"{self.name}-fan-{number}", "content": "Good morning"}
        body |= {"priority": priority, "messageType": _PRIORITIES[priority]}
        status, answer = _call(self.token, _MESSAGES, body)
        if status != 202:
            raise AssertionError(f"{status}: {answer}")
        self.sent[answer["data"]["messageId"]] = (list(_PRIORITIES).index(priority), number)

    def messages(self) -> list[dict]:
        """What was sent and is to be sent."""
        return _call(self.token, f"{_MESSAGES}?accountId={self.name}&limit=100")[1]["data"]["messages"]

    def rests_until(self) -> datetime.datetime:
        """Nothing of it is sent before."""
        accounts = _call(self.token, f"{_ACCOUNTS}?limit=100")[1]["data"]["accounts"]
        [shown] = [account for account in accounts if account["accountId"] == self.name]
        return _moment(shown.get("resumeAt", "1970-01-01T00:00:00Z"))


class Messages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.functions = boto3.client("lambda")
        before = cls.functions.get_function_configuration(FunctionName=_SENDER)["Environment"]["Variables"]
        cls.addClassCleanup(cls.configure, before)
        cls.configure(before | _CONFIGURATION)

    @classmethod
    def configure(cls, variables: dict[str, str]):
        cls.functions.update_function_configuration(FunctionName=_SENDER, Environment={"Variables": variables})
        cls.functions.get_waiter("function_updated_v2").wait(FunctionName=_SENDER)

    def setUp(self):
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        self.swept = 0.0
        self.addCleanup(_mix)

    def test_500_messages_reach_their_fans_at_most_once_while_the_sender_is_killed_ten_times(self):
        accounts = [Account(f"{self.name}-user-{n % 4}", f"{self.name}-{n}") for n in range(20)]
        begun = time.monotonic()
        _each(lambda account: account.change(status="paused", session=_session(account.name)), accounts)
        # What is more urgent comes later, so that the order of coming is not that of going.
        wanted = ["low"] * 7 + ["medium"] * 7 + ["high"] * 6 + ["critical"] * 5
        _each(lambda account: [account.send(priority) for priority in wanted], accounts)
        queued = time.monotonic()
        _mix(seed=5, hangAfter=0.05, hangBefore=0.01, refuse=0.05, slow=0.8, slowMs=100)
        _each(lambda account: account.change(status="active"), accounts)

        killed = 0
        for kill in range(_KILLS):
            self.await_arrivals(accounts, 24 * kill + 1)
            killed += self.await_(lambda: workers.kill(_SENDER, _KILLED_AT_ONCE), "a process of the sender")
        shown = self.ends(accounts)
        ended = time.monotonic()

        arrivals = self.assert_at_most_once(accounts)
        self.assertEqual(len(shown), 500)
        states = collections.Counter(message["status"] for message in shown.values())
        self.assertEqual(set(states), set(_ENDS))
        sent = {message for message, one in shown.items() if one["status"] == "sent"}
        unknown = {message for message, one in shown.items() if one["status"] == "unknown"}
        self.assertLessEqual(sent, set(arrivals))
        self.assertLessEqual(set(arrivals), sent | unknown)
        self.assertGreater(sum(message["throttled"] for message in shown.values()), 0, "no limit was met")
        self.assert_limits(accounts, _ACCOUNT_LIMITS)
        self.assert_within(_moments(accounts), *_GLOBAL_LIMIT)
        for account in accounts:
            # One that was certainly not delivered is tried again later.
            first = [message for message in arrivals if message in account.sent and shown[message]["attempts"] == 1]
            order = [account.sent[message] for message in first]
            self.assertEqual(order, sorted(order), account.name)
        interrupted = _interrupted(self.name)
        self.assertGreater(interrupted, 0)
        print(f"\n500 messages of 20 accounts: {dict(states)}; {len(arrivals)} at their fans, none twice", flush=True)
        print(f"killed ten times: {killed} processes, with {interrupted} messages on their way", flush=True)
        print(f"queued in {queued - begun:.0f} s, at their ends {ended - queued:.0f} s later", flush=True)

    def test_nothing_is_sent_while_redis_stands_still_and_all_of_it_afterwards(self):
        accounts = self.active(6)
        _each(lambda account: [account.send() for _ in range(8)], accounts)
        self.await_arrivals(accounts, 12)
        redis = int(_redis_server("process_id"))
        stopped = _now()
        os.kill(redis, signal.SIGSTOP)
        try:
            _each(lambda account: [account.send() for _ in range(4)], accounts)
            # That nothing comes takes its time to see.
            self.await_(lambda: _now() > stopped + _STANDSTILL, "the end of the outage")
            resting = [account for account in accounts if account.rests_until() > stopped]
        finally:
            os.kill(redis, signal.SIGCONT)
        resumed = _now()
        self.assertTrue(resting, "no sender has asked the limiter in that time")
        self.assert_all_sent(accounts, stopped, resumed, _ACCOUNT_LIMITS)

    def test_what_redis_forgets_as_it_dies_is_no_room_for_more(self):
        accounts = self.active(4, limits={"account_day": 6})
        _each(lambda account: [account.send() for _ in range(6)], accounts)
        self.await_arrivals(accounts, 24)
        died, life = _now(), _redis_server("run_id")
        # It begins anew by itself, with nothing in its memory.
        _redis("DEBUG", "CRASH-AND-RECOVER", str(_OUTAGE // datetime.timedelta(milliseconds=1)))
        _each(lambda account: [account.send() for _ in range(6)], accounts)
        self.assertEqual(_redis("PING"), "")
        self.await_(lambda: _redis("PING"), "Redis")
        back = _now()
        self.assertNotEqual(_redis_server("run_id"), life)
        self.assert_all_sent(accounts, died, back, [*_ACCOUNT_LIMITS, (6, 20)])

    def await_arrivals(self, accounts: list[Account], how_many: int):
        self.await_(lambda: len(_arrivals(accounts)) >= how_many, f"{how_many} messages at their fans")

    def await_(self, done, what: str):
        """What it says once it is. Meanwhile the sweeper is sent every second instead of every minute."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (answer := done()):
            self.assertLess(time.monotonic(), deadline, f"no sign of {what}")
            if time.monotonic() > self.swept + 1:
                self.swept = time.monotonic()
                swept = self.functions.invoke(FunctionName=_SWEEPER, Payload="{}")
                self.assertNotIn("FunctionError", swept)
            time.sleep(0.2)
        return answer

    def active(self, how_many: int, **change) -> list[Account]:
        accounts = [Account(f"{self.name}-user", f"{self.name}-{n}") for n in range(how_many)]
        _each(lambda account: account.change(session=_session(account.name)), accounts)
        if change:
            _each(lambda account: account.change(**change), accounts)
        return accounts

    def ends(self, accounts: list[Account]) -> dict[str, dict]:
        """Every message by its id, once each is at its end and nothing more is done about it."""
        shown = {}

        def are_there() -> bool:
            left = [account for account in accounts if account.name not in shown]
            for account, messages in zip(left, _each(Account.messages, left), strict=True):
                if all(_is_at_its_end(message) for message in messages):
                    shown[account.name] = messages
            return len(shown) == len(accounts)

        self.await_(are_there, "the end of every message")
        return {message["messageId"]: message for messages in shown.values() for message in messages}

    def assert_all_sent(self, accounts: list[Account], gone: datetime.datetime, back: datetime.datetime, limits: list):
        shown = self.ends(accounts)
        self.assertEqual({message["status"] for message in shown.values()}, {"sent"}, shown)
        arrivals = self.assert_at_most_once(accounts)
        self.assertEqual(set(arrivals), {message for account in accounts for message in account.sent})
        # What had its permit before may arrive until that has run out.
        between = [at for at in arrivals.values() if gone + _HOLD < at < back]
        self.assertEqual(between, [])
        self.assertGreater(max(arrivals.values()), back)
        self.assert_limits(accounts, limits)
        away, after = (back - gone).total_seconds(), (max(arrivals.values()) - back).total_seconds()
        print(f"\nRedis was away for {away:.1f} s, in which nothing was sent", flush=True)
        print(
            f"the last of {len(arrivals)} messages of {len(accounts)} accounts was sent {after:.1f} s later", flush=True
        )

    def assert_at_most_once(self, accounts: list[Account]) -> dict[str, datetime.datetime]:
        """When each message arrived, in that order."""
        arrivals = _arrivals(accounts)
        keys = [message["idempotency_key"] for message in arrivals]
        self.assertEqual([key for key, n in collections.Counter(keys).items() if n > 1], [])
        fans = collections.Counter(message["recipient"] for message in arrivals)
        self.assertEqual([fan for fan, n in fans.items() if n > 1], [])
        return {message["idempotency_key"]: _moment(message["at"]) for message in arrivals}

    def assert_limits(self, accounts: list[Account], limits: list[tuple[int, float]]):
        for account in accounts:
            for limit, seconds in limits:
                self.assert_within(_moments([account]), limit, seconds)

    def assert_within(self, moments: list[datetime.datetime], limit: int, seconds: float):
        """In any so many seconds there are no more than the limit."""
        spans = [later - first for first, later in zip(moments, moments[limit:], strict=False)]
        self.assertGreaterEqual(min(spans, default=datetime.timedelta.max).total_seconds(), seconds, (limit, seconds))


def _is_at_its_end(message: dict) -> bool:
    """And nothing is looked for any more."""
    return message["status"] in _ENDS and (message["status"] != "unknown" or message["needsDecision"])


def _session(account: str) -> dict[str, str]:
    return {"cookie": settings.WORLD_ONLYFANS_COOKIE + account}


def _each(action, items) -> list:
    """For all of them side by side."""
    with concurrent.futures.ThreadPoolExecutor(_CLIENTS) as pool:
        return list(pool.map(action, items))


def _call(token: str, path: str, body: dict | None = None) -> tuple[int, dict]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return _request(os.environ["API_URL"] + path, body, headers)


def _request(url: str, body: dict | None = None, headers: dict[str, str] | None = None) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {})
    with urllib.request.urlopen(request, timeout=35) as answer:
        return answer.status, json.loads(answer.read() or "null")


def _mix(**shares):
    """What the fans' messages meet with from now on: nothing, unless it is said."""
    _request(f"{os.environ['WORLD_URL']}/control/onlyfans/mix", shares, {"Content-Type": "application/json"})


def _arrivals(accounts: list[Account]) -> list[dict]:
    """What has reached fans, in the order of its coming."""
    names = {account.name for account in accounts}
    messages = _request(f"{os.environ['WORLD_URL']}/control/onlyfans/messages")[1]
    return sorted((message for message in messages if message["account"] in names), key=lambda m: _moment(m["at"]))


def _moments(accounts: list[Account]) -> list[datetime.datetime]:
    return [_moment(message["at"]) for message in _arrivals(accounts)]


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _redis(*words: str) -> str:
    """What Redis says to a command; nothing where it is away."""
    command = ["redis-cli", "-u", os.environ["REDIS_URL"], *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout


def _redis_server(field: str) -> str:
    """What Redis says of itself."""
    return re.search(rf"^{field}:(\w+)", _redis("INFO", "server"), re.MULTILINE)[1]


def _interrupted(name: str) -> int:
    """How many calls nobody was left to end, of the accounts whose names begin so."""
    count = (
        f"SELECT count(*) FROM orchestrator.message_attempts WHERE reason = 'interrupted' AND account_id LIKE '{name}%'"
    )
    done = subprocess.run(
        ["psql", "-qAtX", "-c", count, os.environ["DATABASE_URL"]],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return int(done.stdout)


if __name__ == "__main__":
    unittest.main()
