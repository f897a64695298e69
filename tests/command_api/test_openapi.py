"""The published description is that of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from command_api.codes import CODES
from command_api.openapi import openapi_text

_ROOT = Path(__file__).parents[2]
_PUBLISHED = _ROOT / "contracts" / "openapi.command.json"


def test_the_published_description_agrees_with_the_code() -> None:
    assert _PUBLISHED.read_text(encoding="utf-8") == openapi_text(), "run `make contracts`"


def test_every_command_its_body_and_its_refusals_are_described() -> None:
    document = json.loads(openapi_text())
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            assert {"401", "403", "413", "422"} <= responses.keys(), (method, path)
            assert "404" in responses or "{" not in path, (method, path)
            has_body = "requestBody" in operation
            assert has_body == (method in ("post", "put", "patch") and not path.endswith(("/microgrid", "/resync"))), (method, path)
            for status, response in responses.items():
                if not status.startswith("2"):
                    assert list(response["content"]) == ["application/problem+json"], (method, path, status)
            headers = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "header"]
            of_a_version = ["If-Match"] if path.startswith("/api/controller-binding/") else []
            assert headers == [*(["Idempotency-Key"] if method == "post" else []), *of_a_version], (method, path)


def test_every_body_refuses_what_it_does_not_name() -> None:
    document = json.loads(openapi_text())
    for path, operations in document["paths"].items():
        for operation in operations.values():
            body = operation.get("requestBody")
            if body is not None and not path.startswith("/api/packet"):
                assert body["content"]["application/json"]["schema"]["additionalProperties"] is False, path


def test_every_property_of_an_answer_is_always_there() -> None:
    schemas = cast("dict[str, dict[str, Any]]", json.loads(openapi_text())["components"]["schemas"])
    # A code is told where there is one, and only there.
    optional = ("ProblemFault", "OutcomeOfAction", "OutcomeInBatch")
    for name, schema in schemas.items():
        if name not in optional and "instance" not in schema.get("properties", {}):
            assert sorted(schema.get("properties", {})) == sorted(schema.get("required", [])), name


def test_every_code_stands_in_the_code() -> None:
    folders = ("libs", "services", "contracts")
    sources = [file for folder in folders for file in (_ROOT / folder).rglob("*.*") if file.suffix in (".py", ".json")]
    text = "".join(
        file.read_text(encoding="utf-8")
        for file in sources
        if file.name not in ("codes.py", "openapi.command.json", "openapi.read.json")
    )
    made = re.compile(r"^[A-Z_]+_(?:IN_USE|NOT_FOUND)$")
    missing = [code for code in CODES if f'"{code}"' not in text and not made.match(code)]
    # What the shared error answers name by the status.
    assert set(missing) <= {"NOT_FOUND", "METHOD_NOT_ALLOWED"}
