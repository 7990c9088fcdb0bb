"""What the environment of `make run` says, as parameters of the template and as variables of the secret."""

import base64
import dataclasses
import os
from collections.abc import Mapping

from stack.errors import StackError

# The keys that tests/world takes.
_WORLD_AZURE_KEY = "world-azure-key"
_WORLD_OPENAI_KEY = "world-openai-key"

# What tests/world takes as Slack's webhook.
_WORLD_SLACK_PATH = "/slack/services/T0WORLD/B0WORLD/world-slack-token"
# Where tests/world plays OnlyFans, and what it takes as the session of an account there.
_WORLD_ONLYFANS_PATH = "/onlyfans/api2/v2"
WORLD_ONLYFANS_COOKIE = "sess=world.0."
# Where tests/world plays the system before this one.
_WORLD_LEGACY_PATH = "/legacy"

# Nobody's, by RFC 2606: the emulator keeps the e-mails.
_OPERATORS = "operators@huntaze.example"
SENDER = "alerts@huntaze.example"

# The template's parameter of each provider's URL.
_ENDPOINTS = {"Azure OpenAI": "AzureOpenAiEndpoint", "OpenAI": "OpenAiBaseUrl"}

# Variables that are handed on where they are set, under the functions' own names.
_PARAMETERS = {
    "ALLOWED_ORIGINS": "AllowedOrigins",
    "AUTH_ROLE_CLAIM": "AuthRoleClaim",
    "AZURE_OPENAI_API_VERSION": "AzureOpenAiApiVersion",
    "AZURE_OPENAI_DEPLOYMENT": "AzureOpenAiDeployment",
    "COST_ALERT_EMAIL": "CostAlertEmail",
    "HUMAN_APPROVAL": "HumanApproval",
    "HYBRID_ORCHESTRATOR_ENABLED": "HybridOrchestratorEnabled",
    "HYBRID_ORCHESTRATOR_PERCENTAGE": "HybridOrchestratorPercentage",
    "LEGACY_API_URL": "LegacyApiUrl",
    "LOG_LEVEL": "LogLevel",
    "ONLYFANS_API_URL": "OnlyFansApiUrl",
    "ONLYFANS_USER_AGENT": "OnlyFansUserAgent",
    "RATE_LIMIT_MODE": "RateLimitMode",
    "ROLE_PLANNER": "RolePlanner",
    "ROLE_SHORT_MESSAGE": "RoleShortMessage",
    "ROLE_VALIDATOR": "RoleValidator",
}
_SECRETS = [
    "AUTH_SECRET",
    "AUTH_SECRET_1",
    "AUTH_SECRET_2",
    "AUTH_SECRET_3",
    "SERVICE_JWT_HS256_SECRET",
    "SERVICE_JWT_RS256_PUBLIC_KEY",
    "SERVICE_JWT_ISSUER",
    "SERVICE_JWT_AUDIENCE",
    "OPENAI_ORG_ID",
    "SUPPRESSION_KEY",
    # No secrets, but knobs that the template does not have.
    "ALERT_SILENCE_MS",
    "BREAKER_FAILURES",
    "BREAKER_MIN_FAILURE_PERCENT",
    "BREAKER_OPEN_MS",
    "BREAKER_PACE_DEFAULT_MS",
    "BREAKER_PACE_MAX_MS",
    "BREAKER_PROBE_LEASE_MS",
    "BREAKER_WINDOW_MS",
    "CACHE_FRESH_SECONDS_CAMPAIGN_EXECUTION",
    "CACHE_FRESH_SECONDS_CONTENT_PLANNING",
    "CACHE_FRESH_SECONDS_CONTENT_VALIDATION",
    "CACHE_FRESH_SECONDS_MESSAGE_GENERATION",
    "CACHE_KEPT_SECONDS_CAMPAIGN_EXECUTION",
    "CACHE_KEPT_SECONDS_CONTENT_PLANNING",
    "CACHE_KEPT_SECONDS_CONTENT_VALIDATION",
    "CACHE_KEPT_SECONDS_MESSAGE_GENERATION",
    "API_RATE_LIMIT_PER_MINUTE",
    "AZURE_OPENAI_MODEL",
    "AZURE_TIMEOUT_MS",
    "OPENAI_TIMEOUT_MS",
    "PLANNER_TIME_MS",
    "REQUEST_DEADLINE_MS",
    "RESERVATION_LEASE_MS",
    "LEDGER_ENTRY_TTL_DAYS",
    "LEDGER_SWEEP_GRACE_MS",
    "MANUAL_REVIEW_TYPES",
    "MAX_RETRIES",
    "MESSAGE_DUPLICATE_SECONDS",
    "MESSAGE_LOOK_EVERY_MS",
    "MESSAGE_PRIORITY_STEP_SECONDS",
    "MESSAGE_QUEUE_LIMIT",
    "MESSAGE_RETRIES",
    "MODERATION_LEVELS",
    "MODERATION_MODEL",
    "MODERATION_TIME_MS",
    "ONLYFANS_ACCOUNTS_PER_USER",
    "ONLYFANS_BREAKER_FAILURES",
    "ONLYFANS_BREAKER_OPEN_MS",
    "LEGACY_TIMEOUT_MS",
    "ONLYFANS_MOST_REFUSALS",
    "PRICE_FALLBACK_INPUT_PER_MILLION",
    "PRICE_FALLBACK_OUTPUT_PER_MILLION",
    "RATE_LIMIT_ACCOUNT_PER_DAY",
    "RATE_LIMIT_ACCOUNT_PER_HOUR",
    "RATE_LIMIT_ACCOUNT_PER_MINUTE",
    "RATE_LIMIT_CUSTOM_PER_MINUTE",
    "RATE_LIMIT_DAY_MS",
    "RATE_LIMIT_FOLLOW_UP_PER_HOUR",
    "RATE_LIMIT_GLOBAL_PER_SECOND",
    "RATE_LIMIT_HOUR_MS",
    "RATE_LIMIT_MINUTE_MS",
    "RATE_LIMIT_PROMOTIONAL_PER_DAY",
    "RATE_LIMIT_RECIPIENTS_PER_HOUR",
    "RATE_LIMIT_RECIPIENT_PER_HOUR",
    "RATE_LIMIT_RECIPIENT_PER_MINUTE",
    "RATE_LIMIT_SECOND_MS",
    "RATE_LIMIT_SHARDS",
    "RATE_LIMIT_USER_PER_HOUR",
    "RATE_LIMIT_WELCOME_PER_HOUR",
    "REVIEW_CLAIM_MS",
    "SHORT_MESSAGE_TIME_MS",
    "SPIKE_MINIMUM",
    "SPIKE_MULTIPLIER",
    "VALIDATOR_TIME_MS",
    "WORKFLOW_DEADLINE_MS",
    "WORKFLOW_RETRY_MS",
]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a deployment takes beside the stores."""

    parameters: dict[str, str]
    secrets: dict[str, str]
    providers: str
    # Whether tests/world plays OnlyFans.
    plays_onlyfans: bool


def read(environment: Mapping[str, str], world_url: str) -> Settings:
    """The providers whose keys are in the environment and no others; where there is none, tests/world plays both.

    Invented texts never stand beside real ones, and an endpoint without its key is not called at all.
    """
    given = {name: value for name, value in environment.items() if value}
    azure_key, openai_key = given.get("AZURE_OPENAI_API_KEY"), given.get("OPENAI_API_KEY")
    if azure_key and "AZURE_OPENAI_ENDPOINT" not in given:
        raise StackError("AZURE_OPENAI_API_KEY is set, so AZURE_OPENAI_ENDPOINT has to be set as well")
    called = {}
    if azure_key:
        called["Azure OpenAI"] = given["AZURE_OPENAI_ENDPOINT"]
    if openai_key:
        called["OpenAI"] = given.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    if not called:
        called = {"Azure OpenAI": f"{world_url}/azure", "OpenAI": f"{world_url}/openai/v1"}
        azure_key, openai_key = _WORLD_AZURE_KEY, _WORLD_OPENAI_KEY

    parameters = {
        "Architecture": "x86_64",
        "CreateDataStores": "true",
        "AllowedOrigins": "http://localhost:3000",
        "CostAlertEmail": _OPERATORS,
        "SesFromEmail": SENDER,
        "SesIdentity": SENDER,
        "OnlyFansApiUrl": world_url + _WORLD_ONLYFANS_PATH,
        "LegacyApiUrl": world_url + _WORLD_LEGACY_PATH,
    }
    parameters |= {_ENDPOINTS[provider]: url for provider, url in called.items()}
    parameters |= {parameter: given[name] for name, parameter in _PARAMETERS.items() if name in given}
    keys = {"AZURE_OPENAI_API_KEY": azure_key, "OPENAI_API_KEY": openai_key}
    secrets = {name: key for name, key in keys.items() if key}
    secrets["SLACK_WEBHOOK_URL"] = given.get("SLACK_WEBHOOK_URL", world_url + _WORLD_SLACK_PATH)
    secrets |= {name: given[name] for name in _SECRETS if name in given}
    # The sessions live as long as the stack, and so may their key.
    secrets["OF_SESSION_KEYS"] = given.get("OF_SESSION_KEYS", "local:" + base64.b64encode(os.urandom(32)).decode())
    providers = ", ".join(f"{provider} at {url}" for provider, url in called.items())
    return Settings(parameters, secrets, providers, plays_onlyfans="ONLYFANS_API_URL" not in given)
