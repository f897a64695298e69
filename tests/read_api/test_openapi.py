"""The published description is that of the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from read_api.openapi import openapi_text

_PUBLISHED = Path(__file__).parents[2] / "contracts" / "openapi.read.json"


def test_the_published_description_agrees_with_the_code() -> None:
    assert _PUBLISHED.read_text(encoding="utf-8") == openapi_text(), "run `python -m read_api.openapi contracts/openapi.read.json`"


def test_every_answer_and_every_refusal_is_described() -> None:
    document = json.loads(openapi_text())
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        assert list(operations) == ["get"], path
        responses = operations["get"]["responses"]
        assert "422" in responses, path
        assert "404" in responses or "{" not in path, path
        for status, response in responses.items():
            if status == "304":
                assert "content" not in response, path
                continue
            assert response["content"], (path, status)
            if status != "200":
                assert list(response["content"]) == ["application/problem+json"], (path, status)
    assert not [name for name in document["components"]["schemas"] if "HTTPValidationError" in name]


def test_every_property_of_an_answer_is_always_there() -> None:
    schemas = cast("dict[str, dict[str, Any]]", json.loads(openapi_text())["components"]["schemas"])
    for name, schema in schemas.items():
        if name not in ("ProblemDocument", "ProblemFault"):
            assert sorted(schema.get("properties", {})) == sorted(schema.get("required", [])), name
