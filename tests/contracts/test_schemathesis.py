"""Both APIs at one address, asked whatever their descriptions allow and much that they do not: every answer is as described.

Each case that Schemathesis makes is sent as it is; one that finds nothing is sent again with the ids of things that are there.
No answer is a 5xx or has a status, media type, header or shape that the description lacks, and every code is one that it promises.
What a description calls valid is taken, or refused for a reason that no schema can tell.
"""

# Schemathesis tells the types of its cases only in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

import json
import os
from collections import defaultdict
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import (
    allow_header_conformance,
    content_type_conformance,
    not_a_server_error,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.routing import compile_path
from tests.contracts.good_requests import OPERATIONS
from tests.contracts.http_promises import APIS, described
from tests.contracts.http_stack import Stack

pytestmark = pytest.mark.services

_CONFORMANCE = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# A request that a schema calls valid may be refused with these: they are about its form, and the schema tells that.
_OF_FORM = {"UNKNOWN_FIELD", "MISSING_FIELD", "INVALID_VALUE", "INVALID_TIMESTAMP", "MALFORMED_JSON"}
# What takes a table of all time zones to tell, when the world began, or another field.
_NOT_IN_A_SCHEMA = ("/timezone", "/capability", "/query/from", "/query/to", "/query/before", "/query/step", "/value")
_OF_METHODS = [allow_header_conformance, unsupported_method]
_STREAM = "/api/microgrid/{microgrid_id}/stream"


def _one_document() -> dict[str, Any]:
    """Both descriptions as that of one address."""
    read, command = (described(api) for api in APIS)
    # Parts of the same name need not be the same.
    command = json.loads(json.dumps(command).replace("#/components/schemas/", "#/components/schemas/Command"))
    schemas = {f"Command{name}": schema for name, schema in command["components"]["schemas"].items()}
    paths = defaultdict[str, dict[str, Any]](dict)
    for document in (read, command):
        for path, operations in document["paths"].items():
            paths[path].update(operations)
    components = {**read["components"], "schemas": {**read["components"]["schemas"], **schemas}}
    return {**read, "paths": dict(paths), "components": components}


# In CI the same requests whatever words this page is edited in; the seed is mixed with the name of each operation.
_SEED = {"seed": 1} if os.environ.get("CI") else {}
# Our pattern for names excludes U+0000 in a way that the generator does not read.
_CONFIG = schemathesis.Config.from_dict({"generation": {"allow-x00": False}, "request-timeout": 60, **_SEED})
API = schemathesis.openapi.from_dict(_one_document(), config=_CONFIG)
PROMISED = {code for api in APIS for code in described(api)["x-codes"]}
# Paths at which another one's id could stand: its methods are told as possible there, too.
_PATHS = {operation.partition(" ")[2] for operation in OPERATIONS}
SHADOWED = {path for path in _PATHS if any(compile_path(other)[0].match(path) for other in _PATHS - {path})}


@pytest.fixture
def restored(stack: Stack) -> Stack:
    stack.restore()
    return stack


@API.exclude(path=_STREAM).parametrize()
@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
def test_every_answer_is_as_described(case: Case[Any], restored: Stack) -> None:
    stack = restored
    operation = f"{case.method.upper()} {case.operation.path}"
    headers = stack.allowed(operation) if operation in OPERATIONS else stack.caller("admin")
    how: dict[str, Any] = {"base_url": stack.url, "session": stack.session, "headers": headers}
    left_out = [positive_data_acceptance, *(_OF_METHODS if case.operation.path in SHADOWED else ())]
    # What it asks raises for an answer that its document does not describe; which codes and faults there are it does not know.
    codes, of_form = _refusal(case, case.call_and_validate(**how, excluded_checks=left_out))
    assert codes <= PROMISED
    assert of_form == []
    if any(code.endswith("_NOT_FOUND") for code in codes) and _with_ids_of_things_that_are_there(case, stack):
        codes, of_form = _refusal(case, case.call_and_validate(**how, checks=_CONFORMANCE))
        assert codes <= PROMISED
        assert of_form == []


def _refusal(case: Case[Any], answered: Response) -> tuple[set[str], list[dict[str, str]]]:
    """The codes of a refusal, and what it says against the form of a request that the schemas call valid."""
    if answered.status_code < 400 or not answered.content:
        return set(), []
    problem = answered.json()
    faults: list[dict[str, str]] = problem.get("errors", [])
    codes = {problem["code"], *(fault["code"] for fault in faults)}
    meta = case.meta
    if answered.status_code != 422 or meta is None or meta.generation.mode != GenerationMode.POSITIVE:
        return codes, []
    of_form = [fault for fault in faults if fault["code"] in _OF_FORM]
    return codes, [fault for fault in of_form if not fault["pointer"].endswith(_NOT_IN_A_SCHEMA)]


def _with_ids_of_things_that_are_there(case: Case[Any], stack: Stack) -> bool:
    """Change the case so; False where there is nothing to change."""
    parameters = case.path_parameters or {}
    known = {name: stack.ids[name] for name in parameters if name in stack.ids}
    body = _known_ids(case.body, stack.ids) if isinstance(case.body, dict) else case.body
    if known.items() <= parameters.items() and body == case.body:
        return False
    case.path_parameters = {**parameters, **known}
    case.body = body
    return True


def _known_ids(body: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    return {name: ids.get(name, value) if isinstance(value, str) else value for name, value in body.items()}
