"""Checks of openapi.yaml: OpenAPI's own schema, and each example by the schema that it is an example of."""

from collections.abc import Iterator

import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from stack import paths

# A name for it where its schemas refer to one another.
_DOCUMENT = "urn:openapi"


def faults() -> Iterator[str]:
    """Everything that is wrong with the document."""
    document = yaml.safe_load(paths.OPENAPI.read_text())
    found = list(OpenAPIV31SpecValidator(document).iter_errors())
    located = [(list(fault.absolute_path), fault.message) for fault in found]
    # What is no OpenAPI cannot be walked.
    for path, message in located or _example_faults(document):
        yield f"openapi.yaml: {'/'.join(map(str, path))}: {message.splitlines()[0]}"


def _example_faults(document: dict) -> Iterator[tuple[list, str]]:
    registry = Registry().with_resource(_DOCUMENT, DRAFT202012.create_resource(document))
    for path, owner in _with_schema(document, []):
        examples = {name: example["value"] for name, example in owner.get("examples", {}).items()}
        if "example" in owner:
            examples["example"] = owner["example"]
        # By reference, so that the references in the schema are those of the whole document.
        pointer = "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in [*path, "schema"])
        validator = Draft202012Validator({"$ref": f"{_DOCUMENT}#/{pointer}"}, registry=registry)
        for name, example in examples.items():
            for fault in validator.iter_errors(example):
                yield [*path, name, *fault.absolute_path], fault.message


def _with_schema(node: object, path: list) -> Iterator[tuple[list, dict]]:
    """Every parameter, header and media type: what may have examples beside its schema."""
    if isinstance(node, dict):
        if "schema" in node:
            yield path, node
        for key, child in node.items():
            yield from _with_schema(child, [*path, key])
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _with_schema(child, [*path, index])
