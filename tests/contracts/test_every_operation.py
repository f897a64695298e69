"""Each operation of both APIs, all of them running: carried out as described, and open to nobody who may not."""

from __future__ import annotations

import time
from typing import Any

import jsonschema
import pytest
from httpx2 import Response
from tests.contracts.good_requests import GOOD, OPERATIONS, Request, good_request, path_of
from tests.contracts.http_promises import APIS, described
from tests.contracts.http_stack import Stack

pytestmark = pytest.mark.services

_API_OF = {
    f"{method.upper()} {path}": api for api in APIS for path, operations in described(api)["paths"].items() for method in operations
}
_DOCUMENTS = {api: described(api) for api in APIS}
# Who makes a depot says which it is, so that one that is not theirs is no secret to keep but a wish to refuse.
_ELSEWHERE = {"PUT /api/depot/{depot_id}/site": (403, "FORBIDDEN")}


def _ask(stack: Stack, operation: str, request: Request, headers: dict[str, str]) -> Response:
    path = path_of(operation, {**stack.ids, **request.ids})
    method = operation.partition(" ")[0]
    sent = {**request.headers, **headers}
    given: dict[str, Any] = {"json": request.body} if request.body is not None else {}
    # Its own headers, and not those of the client.
    stack.http.headers.pop("Authorization", None)
    try:
        with stack.http.stream(method, path, params=dict(request.query), headers=sent, **given) as answered:
            if answered.headers.get("content-type", "").startswith("text/event-stream"):
                assert next(answered.iter_lines()) == "event: card"
            else:
                answered.read()
            return answered
    finally:
        stack.http.headers.update(stack.caller("admin"))


def _hold_to_its_description(operation: str, answered: Response) -> None:
    api = _DOCUMENTS[_API_OF[operation]]
    method, _, path = operation.partition(" ")
    responses = api["paths"][path][method.lower()]["responses"]
    assert str(answered.status_code) in responses, (operation, answered.status_code)
    described_answer = responses[str(answered.status_code)]
    for name, header in described_answer.get("headers", {}).items():
        assert name in answered.headers or not header["required"], (operation, name)
    if "content" not in described_answer:
        assert not answered.content, operation
        return
    media_type = answered.headers["content-type"].partition(";")[0]
    assert media_type in described_answer["content"], operation
    if media_type.endswith("json"):
        schema = described_answer["content"][media_type]["schema"]
        jsonschema.validate(answered.json(), {**schema, "components": api["components"]})


def test_every_line_is_of_an_operation_that_there_is() -> None:
    assert GOOD.keys() - set(OPERATIONS) == set()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_carried_out_as_described(operation: str, stack: Stack) -> None:
    stack.restore()
    answered = _ask(stack, operation, good_request(operation, stack), stack.allowed(operation))
    assert answered.status_code < 300, answered.text
    _hold_to_its_description(operation, answered)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_refused_to_whoever_has_no_good_token_or_not_the_role(operation: str, stack: Stack) -> None:
    request = good_request(operation, stack)
    issuer = f"{stack.url}/auth/dev"
    callers: dict[str, tuple[dict[str, str], int, str]] = {
        "without a token": ({}, 401, "UNAUTHENTICATED"),
        "of no form": ({"Authorization": "Bearer a.b.c"}, 401, "TOKEN_INVALID"),
        "expired": (stack.token(issuer, now_s=int(time.time()) - 7200), 401, "TOKEN_EXPIRED"),
        "wrongly signed": (stack.forged(issuer), 401, "TOKEN_INVALID"),
        "of somebody else": (stack.token("https://issuer.example"), 401, "TOKEN_INVALID"),
        "without the role": (stack.refused(operation), 403, "FORBIDDEN"),
    }
    for who, (headers, status, code) in callers.items():
        answered = _ask(stack, operation, request, headers)
        assert (answered.status_code, answered.json()["code"]) == (status, code), who
        _hold_to_its_description(operation, answered)


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if "{" in one])
def test_an_operation_on_something_of_another_depot_is_answered_as_if_it_were_not_there(operation: str, stack: Stack) -> None:
    answered = _ask(stack, operation, good_request(operation, stack), stack.caller("admin", ["elsewhere"]))
    status, code = _ELSEWHERE.get(operation, (404, None))
    assert answered.status_code == status, answered.text
    assert answered.json()["code"] == code or (code is None and answered.json()["code"].endswith("_NOT_FOUND"))
    _hold_to_its_description(operation, answered)
