"""What the HTTP interface has promised once, it holds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.contracts.http_promises import APIS, broken, described, kept_promises, promises

_HOW = "run `make contracts`"


@pytest.mark.parametrize("api", APIS)
def test_every_kept_promise_is_held(api: str) -> None:
    gone = [line for line in broken(kept_promises(), promises(api, described(api))) if line.startswith(f"{api} ")]
    assert gone == [], "a path, field, status or code went away, or a type changed: that needs a new major version"


@pytest.mark.parametrize("api", APIS)
def test_every_promise_is_kept(api: str) -> None:
    assert promises(api, described(api)) <= kept_promises(), _HOW


def _circuit(document: dict[str, Any]) -> dict[str, Any]:
    return document["components"]["schemas"]["CircuitDocument"]["properties"]


def _body(document: dict[str, Any]) -> dict[str, Any]:
    return document["paths"]["/api/circuit"]["post"]["requestBody"]["content"]["application/json"]["schema"]


def _without_path(document: dict[str, Any]) -> None:
    del document["paths"]["/api/depot"]


def _without_method(document: dict[str, Any]) -> None:
    del document["paths"]["/api/circuit/{circuit_id}"]["delete"]


def _without_field(document: dict[str, Any]) -> None:
    del _circuit(document)["name"]


def _other_type(document: dict[str, Any]) -> None:
    _circuit(document)["position"]["type"] = "string"


def _without_input(document: dict[str, Any]) -> None:
    del _body(document)["properties"]["position"]


def _more_required(document: dict[str, Any]) -> None:
    _body(document)["required"].append("position")


def _without_status(document: dict[str, Any]) -> None:
    del document["paths"]["/api/circuit"]["post"]["responses"]["409"]


def _without_code(document: dict[str, Any]) -> None:
    document["x-codes"].remove("CIRCUIT_IN_USE")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_without_path, "POST /api/depot"),
        (_without_method, "DELETE /api/circuit/{circuit_id}"),
        (_without_field, "POST /api/circuit answers 201 .name: string"),
        (_other_type, "POST /api/circuit answers 201 .position: integer"),
        (_without_input, "POST /api/circuit takes .position: integer"),
        (_more_required, "POST /api/circuit takes .position may be left out"),
        (_without_status, "POST /api/circuit answers 409"),
        (_without_code, "code CIRCUIT_IN_USE"),
    ],
)
def test_what_goes_away_is_seen(change: Callable[[dict[str, Any]], None], line: str) -> None:
    before = described("command")
    after = copy.deepcopy(before)
    change(after)
    assert f"command 1 {line}" in broken(promises("command", before), promises("command", after))


def test_more_breaks_nothing() -> None:
    before = described("command")
    after = copy.deepcopy(before)
    _circuit(after)["colour"] = {"type": "string"}
    after["paths"]["/api/new"] = after["paths"]["/api/depot"]
    assert broken(promises("command", before), promises("command", after)) == []


def test_a_new_major_version_may_promise_something_else() -> None:
    before = described("command")
    after = copy.deepcopy(before)
    del after["paths"]["/api/depot"]
    after["info"]["version"] = "2.0.0"
    assert broken(promises("command", before), promises("command", after)) == []
