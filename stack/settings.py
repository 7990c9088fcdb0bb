"""What the environment of `make run` says, as parameters of the template and as variables of the secret."""

import dataclasses
from collections.abc import Mapping

from stack.errors import StackError

# The keys that tests/world takes.
_WORLD_AZURE_KEY = "world-azure-key"
_WORLD_OPENAI_KEY = "world-openai-key"

# Variables that are handed on where they are set, under the functions' own names.
_PARAMETERS = {
    "ALLOWED_ORIGINS": "AllowedOrigins",
    "AUTH_ROLE_CLAIM": "AuthRoleClaim",
    "AZURE_OPENAI_API_VERSION": "AzureOpenAiApiVersion",
    "AZURE_OPENAI_DEPLOYMENT": "AzureOpenAiDeployment",
    "LOG_LEVEL": "LogLevel",
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
    # No secrets, but knobs that the template does not have.
    "AZURE_TIMEOUT_MS",
    "OPENAI_TIMEOUT_MS",
    "REQUEST_DEADLINE_MS",
    "RESERVATION_LEASE_MS",
    "LEDGER_SWEEP_GRACE_MS",
    "PRICE_FALLBACK_INPUT_PER_MILLION",
    "PRICE_FALLBACK_OUTPUT_PER_MILLION",
]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a deployment takes beside the stores."""

    parameters: dict[str, str]
    secrets: dict[str, str]
    providers: str


def read(environment: Mapping[str, str], world_url: str) -> Settings:
    """The real providers where their keys are in the environment, else tests/world, each provider for itself.

    An endpoint without its key is taken for another instance of tests/world.
    """
    given = {name: value for name, value in environment.items() if value}
    azure_key, openai_key = given.get("AZURE_OPENAI_API_KEY"), given.get("OPENAI_API_KEY")
    if azure_key and "AZURE_OPENAI_ENDPOINT" not in given:
        raise StackError("AZURE_OPENAI_API_KEY is set, so AZURE_OPENAI_ENDPOINT has to be set as well")
    azure_url = given.get("AZURE_OPENAI_ENDPOINT", f"{world_url}/azure")
    openai_url = given.get("OPENAI_BASE_URL", "https://api.openai.com/v1" if openai_key else f"{world_url}/openai/v1")

    parameters = {
        "Architecture": "x86_64",
        "CreateDataStores": "true",
        "AllowedOrigins": "http://localhost:3000",
        "AzureOpenAiEndpoint": azure_url,
        "OpenAiBaseUrl": openai_url,
    }
    parameters |= {parameter: given[name] for name, parameter in _PARAMETERS.items() if name in given}
    secrets = {
        "AZURE_OPENAI_API_KEY": azure_key or _WORLD_AZURE_KEY,
        "OPENAI_API_KEY": openai_key or _WORLD_OPENAI_KEY,
    }
    secrets |= {name: given[name] for name in _SECRETS if name in given}
    return Settings(parameters, secrets, f"Azure OpenAI at {azure_url}, OpenAI at {openai_url}")
