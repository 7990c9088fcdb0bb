"""What Schemathesis is told about this API beyond openapi.yaml and schemathesis.toml."""

import collections
import re

import schemathesis

_KEY = "Idempotency-Key"
_VALID = re.compile(r"[!-+\--~]{1,100}")
_CONTEXT = {"accountId": "demo-account", "messageType": "custom", "complianceLevel": "strict"}
_uses: collections.Counter[str] = collections.Counter()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Names the account that sends, and makes a key that is used for the third time a new one.

    The cases share a few short keys. A key that another body has taken is answered with 422 before anything else of the
    request is looked at, and most would end there; the second use is left to show it.
    """
    _name_the_account(case.body)
    key = (case.headers or {}).get(_KEY)
    if key is None or not _VALID.fullmatch(key):
        return
    _uses[key] += 1
    if _uses[key] > 2:
        case.headers[_KEY] = f"{key}-{_uses[key]}"


def _name_the_account(body):
    """Of several accounts, which the caller has, the one that sends has to be named: no schema can say that."""
    if isinstance(body, dict) and body.get("sendToOnlyFans") is True and not body.get("onlyFansContext"):
        body["onlyFansContext"] = _CONTEXT


@schemathesis.check
def what_is_left_of_the_limit_is_said(ctx, response, case):
    """A caller with a session is always told; openapi.yaml cannot require it, for the count may be away."""
    if case.path.startswith("/api/v2/") and response.status_code != 401:
        missing = {"ratelimit", "ratelimit-policy"} - set(response.headers)
        assert not missing, f"{response.status_code} without {', '.join(sorted(missing))}"
