"""Which providers the functions call: the real ones where their keys are in the environment, else tests/world."""

import dataclasses
from collections.abc import Mapping

from stack.errors import StackError

# The keys that tests/world takes.
_WORLD_AZURE_KEY = "world-azure-key"
_WORLD_OPENAI_KEY = "world-openai-key"

# Template parameters that the environment may set under the functions' own names.
_OPTIONAL_PARAMETERS = {
    "AZURE_OPENAI_DEPLOYMENT": "AzureOpenAiDeployment",
    "AZURE_OPENAI_API_VERSION": "AzureOpenAiApiVersion",
    "ROLE_PLANNER": "RolePlanner",
    "ROLE_SHORT_MESSAGE": "RoleShortMessage",
    "ROLE_VALIDATOR": "RoleValidator",
}
_OPTIONAL_SECRETS = ["OPENAI_ORG_ID"]


@dataclasses.dataclass(frozen=True)
class Providers:
    """What the deployment needs to know about the providers."""

    parameters: dict[str, str]
    secrets: dict[str, str]
    description: str


def choose(environment: Mapping[str, str], world_url: str) -> Providers:
    """Each provider for itself: an endpoint may be another's world, a key alone means the real service."""
    given = {name: value for name, value in environment.items() if value}
    azure_key, openai_key = given.get("AZURE_OPENAI_API_KEY"), given.get("OPENAI_API_KEY")
    if azure_key and "AZURE_OPENAI_ENDPOINT" not in given:
        raise StackError("AZURE_OPENAI_API_KEY is set, so AZURE_OPENAI_ENDPOINT has to be set as well")
    azure_url = given.get("AZURE_OPENAI_ENDPOINT", f"{world_url}/azure")
    openai_url = given.get("OPENAI_BASE_URL", "https://api.openai.com/v1" if openai_key else f"{world_url}/openai/v1")

    parameters = {"AzureOpenAiEndpoint": azure_url, "OpenAiBaseUrl": openai_url}
    parameters |= {parameter: given[name] for name, parameter in _OPTIONAL_PARAMETERS.items() if name in given}
    secrets = {
        "AZURE_OPENAI_API_KEY": azure_key or _WORLD_AZURE_KEY,
        "OPENAI_API_KEY": openai_key or _WORLD_OPENAI_KEY,
    }
    secrets |= {name: given[name] for name in _OPTIONAL_SECRETS if name in given}
    return Providers(parameters, secrets, f"Azure OpenAI at {azure_url}, OpenAI at {openai_url}")
