"""`make drill`: a rollout and its rollbacks on the running stack, with requests on both routes all the while."""

import dataclasses
import itertools
import json
import threading
import time
import urllib.request

from stack import session
from stack.errors import StackError

_FLAG = "hybrid-orchestrator"
_FLAGS = "/api/admin/feature-flags"
_NEW, _OLD = "/api/v2/campaigns/hybrid", "/api/campaigns/hybrid"
_USERS = [f"drill-{number}" for number in range(100)]
_CLIENTS = 3
# A flag is read again after five seconds; a request that is under way then still ends by what it began with.
_SEEN_WITHIN = 5.0
_WATCHED = 12.0

# What is done, in its order.
_DRILL = [
    ("5 %", {"rolloutPercentage": 5}),
    ("25 %", {"rolloutPercentage": 25}),
    ("50 %", {"rolloutPercentage": 50}),
    ("100 %", {"rolloutPercentage": 100}),
    ("immediate rollback: the flag is off", {"enabled": False}),
    ("and on again", {"enabled": True}),
    ("gradual rollback: 25 %", {"rolloutPercentage": 25}),
    ("gradual rollback: 5 %", {"rolloutPercentage": 5}),
    ("gradual rollback: nobody", {"rolloutPercentage": 0}),
]


@dataclasses.dataclass(frozen=True)
class _Sent:
    """A request: when it was sent, whose it was, and who answered it; `None` is a failure."""

    at: float
    user: str
    ours: bool | None


@dataclasses.dataclass(frozen=True)
class _Change:
    """A change of the flag, and who is in by it."""

    what: str
    began: float
    done: float
    members: set[str]


def run(variables: dict[str, str]) -> None:
    """Plays it and prints a table; afterwards everybody is taken in again."""
    api, admin, secret = variables["API_URL"], variables["ADMIN_TOKEN"], variables["NEXTAUTH_SECRET"]
    tokens = {user: session.mint(secret, user, user, "creator") for user in _USERS}
    # Once: a user's bucket is the same for ever, and an administrator may ask 120 times a minute.
    buckets = {user: _bucket(api, admin, user) for user in _USERS}
    over, sent = threading.Event(), []
    clients = [threading.Thread(target=_ask, args=(api, tokens, over, sent)) for _ in range(_CLIENTS)]
    for client in clients:
        client.start()
    try:
        changes, flag = [], {"enabled": True, "rolloutPercentage": 100}
        for what, change in _DRILL:
            began = time.monotonic()
            _change(api, admin, change | {"reason": f"drill: {what}"})
            flag |= change
            share = flag["rolloutPercentage"] if flag["enabled"] else 0
            members = {user for user, bucket in buckets.items() if bucket <= share}
            changes.append(_Change(what, began, time.monotonic(), members))
            time.sleep(_WATCHED)
    finally:
        over.set()
        for client in clients:
            client.join()
        _change(api, admin, {"enabled": True, "rolloutPercentage": 100, "reason": "the drill is over"})
    _report(changes, sent)


def _report(changes: list[_Change], sent: list[_Sent]) -> None:
    ends = [change.began for change in changes[1:]] + [float("inf")]
    print("| change | it took | last request by the flag before it | 5 s behind it: served here | failed |")
    print("|---|---|---|---|---|")
    wrong = 0
    for change, end in zip(changes, ends, strict=True):
        during = [one for one in sent if change.done <= one.at < end]
        late = [one.at - change.done for one in during if one.ours not in (None, one.user in change.members)]
        behind = [one for one in during if one.at - change.done >= _SEEN_WITHIN]
        failed = sum(one.ours is None for one in during)
        wrong += failed + sum(wait >= _SEEN_WITHIN for wait in late)
        share = f"{sum(one.ours is True for one in behind)} of {len(behind)} requests"
        last = f"sent {max(late):.1f} s behind it" if late else "none"
        print(f"| {change.what} | {1_000 * (change.done - change.began):.0f} ms | {last} | {share} | {failed} |")
    if wrong:
        raise StackError(f"{wrong} requests failed, or were served by a flag of five seconds ago")


def _ask(api: str, tokens: dict[str, str], over: threading.Event, sent: list[_Sent]) -> None:
    bodies = {
        _NEW: {"type": "content_planning", "platforms": ["onlyfans"], "data": {"theme": "drill"}},
        _OLD: {"action": "create_post", "payload": {"theme": "drill"}, "platform": "onlyfans"},
    }
    for (path, body), user in zip(itertools.cycle(bodies.items()), itertools.cycle(tokens), strict=False):
        if over.is_set():
            return
        at = time.monotonic()
        try:
            answer = _call(api + path, tokens[user], "POST", {"userId": user, **body})
            ours = "workflowId" in answer["data"]
        except (OSError, KeyError, TypeError, ValueError):
            ours = None
        sent.append(_Sent(at, user, ours))


def _bucket(api: str, admin: str, user: str) -> int:
    return _call(f"{api}{_FLAGS}/evaluate?name={_FLAG}&userId={user}", admin)["data"]["bucket"]


def _change(api: str, admin: str, change: dict) -> None:
    _call(api + _FLAGS, admin, "PUT", {"name": _FLAG, **change}, {"If-Match": "*"})


def _call(url: str, token: str, method: str = "GET", body: dict | None = None, headers: dict | None = None) -> dict:
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, sent, method=method)
    with urllib.request.urlopen(request, timeout=35) as answer:
        return json.loads(answer.read())
