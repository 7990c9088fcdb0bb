"""The project's template, translated from SAM to CloudFormation as the emulator understands it."""

import copy
import logging
import os
import pathlib
import re

from samtranslator.public.translator import ManagedPolicyLoader
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from stack.errors import StackError

Template = dict

# The translator would remind its user to publish metrics of its own.
logging.getLogger("samtranslator").setLevel(logging.ERROR)


def load(path: pathlib.Path) -> Template:
    """The template as it is in the file."""
    return yaml_parse(path.read_text())


def functions(template: Template) -> dict[str, str]:
    """Logical id of every function, and the binary that it runs."""
    return {
        logical_id: resource["Metadata"]["BuildProperties"]["Binary"]
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def with_code(template: Template, locations: dict[str, str]) -> Template:
    """The template with each function's code where it was uploaded to, as `sam package` leaves it."""
    resources = dict(template["Resources"])
    for logical_id, uri in locations.items():
        function = resources[logical_id]
        resources[logical_id] = {**function, "Properties": {**function["Properties"], "CodeUri": uri}}
    return {**template, "Resources": resources}


def translate(template: Template, parameters: dict[str, str], region: str) -> Template:
    """Plain CloudFormation from SAM, by AWS's own translator, which writes some parameters' values into it."""
    os.environ.setdefault("AWS_DEFAULT_REGION", region)  # The translator asks boto3 for it.
    source = copy.deepcopy(template)  # The translator works on what it is given.
    return transform(source, _typed(template["Parameters"], parameters), ManagedPolicyLoader(None))


def _typed(declared: dict[str, dict], given: dict[str, str]) -> dict[str, str | list[str]]:
    """The parameters with their defaults, lists as lists, as CloudFormation hands them to a transform."""
    values = {name: given.get(name, parameter.get("Default", "")) for name, parameter in declared.items()}
    lists = {name for name, parameter in declared.items() if parameter["Type"] == "CommaDelimitedList"}
    return {name: value.split(",") if name in lists else value for name, value in values.items()}


def expand_http_apis(template: Template) -> Template:
    """Routes and integrations as resources of their own.

    SAM writes them into the OpenAPI document that is the API's `Body`; the emulator does not read it.
    """
    resources = {}
    for logical_id, resource in template["Resources"].items():
        body = resource.get("Properties", {}).get("Body")
        if resource["Type"] == "AWS::ApiGatewayV2::Api" and body:
            resources |= _expand(logical_id, resource, body)
        else:
            resources[logical_id] = resource
    return {**template, "Resources": resources}


def widen_email(template: Template) -> Template:
    """Roles that may send e-mail may do so from any identity.

    The emulator asks for the right to `ses:SendEmail` on `*`, where AWS asks for it on the sender's identity.
    """
    resources = copy.deepcopy(template["Resources"])
    for resource in resources.values():
        for policy in resource.get("Properties", {}).get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement.get("Action") == "ses:SendEmail":
                    statement["Resource"] = "*"
    return {**template, "Resources": resources}


def _expand(api_id: str, api: dict, body: dict) -> dict[str, dict]:
    properties = {name: value for name, value in api["Properties"].items() if name not in ("Body", "FailOnWarnings")}
    properties |= {"Name": {"Ref": "AWS::StackName"}, "ProtocolType": "HTTP"}
    if cors := body.get("x-amazon-apigateway-cors"):
        properties["CorsConfiguration"] = cors  # The emulator reads the OpenAPI spelling of the names.
    expanded = {api_id: {**api, "Properties": properties}}
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            expanded |= _route(api_id, _route_key(path, method), operation)
    return expanded


def _route_key(path: str, method: str) -> str:
    verb = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
    return "$default" if path == "/$default" else f"{verb} {path}"


def _route(api_id: str, route_key: str, operation: dict) -> dict[str, dict]:
    if operation.get("security"):
        raise StackError(f"{route_key}: authorizers of the gateway are not supported by the local deployment")
    integration = operation["x-amazon-apigateway-integration"]
    name = api_id + re.sub(r"\W", "", route_key.title())
    return {
        f"{name}Integration": {
            "Type": "AWS::ApiGatewayV2::Integration",
            "Properties": {
                "ApiId": {"Ref": api_id},
                "IntegrationType": integration["type"].upper(),
                "IntegrationUri": integration["uri"],
                "PayloadFormatVersion": integration["payloadFormatVersion"],
            },
        },
        f"{name}Route": {
            "Type": "AWS::ApiGatewayV2::Route",
            "Properties": {
                "ApiId": {"Ref": api_id},
                "RouteKey": route_key,
                "Target": {"Fn::Sub": f"integrations/${{{name}Integration}}"},
            },
        },
    }
