"""Every HTTP error is a problem document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Query
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from service_runtime.problem import (
    FieldFault,
    Problem,
    install_problem_answers,
    json_pointer,
    methods_described,
    problem_of_faults,
    problem_responses,
)


def _identifier(value: str) -> str:
    if " " in value:
        raise PydanticCustomError("INVALID_IDENTIFIER", "No spaces")
    return value


class _Circuit(BaseModel):
    model_config = ConfigDict(extra="forbid")
    circuit_id: Annotated[str, AfterValidator(_identifier)]
    rating_kw: float | None = None
    since: AwareDatetime | None = None


class _Site(BaseModel):
    model_config = ConfigDict(extra="forbid")
    circuits: list[_Circuit]


class _Filter(BaseModel):
    model_config = ConfigDict(extra="forbid")
    limit: int = 100
    status: Literal["PENDING"] | None = None


def _app() -> FastAPI:
    app = FastAPI()
    install_problem_answers(app)

    def put_site(site: _Site) -> int:
        return len(site.circuits)

    def letters(chosen: Annotated[_Filter, Query()]) -> int:
        return chosen.limit

    def moved() -> None:
        raise Problem(409, "CIRCUIT_CYCLE", "k-1 would be above itself", headers={"Retry-After": "1"}, extra={"circuit_id": "k-1"})

    def broken() -> None:
        raise RuntimeError("postgresql://u:hunter2@h/d")

    for path, method, answer in (
        ("/site", "POST", put_site),
        ("/letters", "GET", letters),
        ("/moved", "GET", moved),
        ("/broken", "GET", broken),
    ):
        app.add_api_route(path, answer, methods=[method], responses=problem_responses(422))
    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=_app(), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://depotgrid") as http:
        yield http


def _document(response: httpx2.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == response.status_code
    assert set(document) >= {"type", "title", "status", "detail", "instance", "code"}
    return document


_SINGLE_FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"circuits": [{"circuit_id": "a", "name": 1}]}, "UNKNOWN_FIELD", "/circuits/0/name"),
    ({"circuits": [{}]}, "MISSING_FIELD", "/circuits/0/circuit_id"),
    ({"circuits": [{"circuit_id": "a b"}]}, "INVALID_IDENTIFIER", "/circuits/0/circuit_id"),
    ({"circuits": [{"circuit_id": "a", "rating_kw": "x"}]}, "INVALID_VALUE", "/circuits/0/rating_kw"),
    ({"circuits": [{"circuit_id": "a", "since": "2026-01-01T00:00:00"}]}, "INVALID_TIMESTAMP", "/circuits/0/since"),
]


@pytest.mark.parametrize(("body", "code", "pointer"), _SINGLE_FAULTS)
async def test_a_single_fault_lends_its_code(client: httpx2.AsyncClient, body: dict[str, Any], code: str, pointer: str) -> None:
    response = await client.post("/site", json=body)
    document = _document(response)
    assert (response.status_code, document["code"]) == (422, code)
    assert [(fault["pointer"], fault["code"]) for fault in document["errors"]] == [(pointer, code)]


async def test_several_faults_are_listed(client: httpx2.AsyncClient) -> None:
    document = _document(await client.post("/site", json={"circuits": [{"circuit_id": "a b", "x": 1}]}))
    assert document["code"] == "VALIDATION_FAILED"
    assert {fault["code"] for fault in document["errors"]} == {"INVALID_IDENTIFIER", "UNKNOWN_FIELD"}


@pytest.mark.parametrize("body", [b"{", b"", b'{"circuits": [] '])
async def test_a_body_that_is_no_json_is_told(client: httpx2.AsyncClient, body: bytes) -> None:
    response = await client.post("/site", content=body, headers={"content-type": "application/json"})
    document = _document(response)
    assert (response.status_code, document["code"]) == (422, "MALFORMED_JSON" if body else "MISSING_FIELD")
    assert document["errors"][0]["pointer"] == ""


@pytest.mark.parametrize(
    ("query", "code", "pointer"),
    [
        ("stauts=PENDING", "UNKNOWN_FIELD", "/query/stauts"),
        ("limit=x", "INVALID_VALUE", "/query/limit"),
        ("status=LOST", "INVALID_VALUE", "/query/status"),
    ],
)
async def test_a_wrong_query_parameter_is_told(client: httpx2.AsyncClient, query: str, code: str, pointer: str) -> None:
    response = await client.get(f"/letters?{query}")
    document = _document(response)
    assert (response.status_code, document["code"], document["errors"][0]["pointer"]) == (422, code, pointer)


async def test_a_raised_problem_keeps_its_members_and_headers(client: httpx2.AsyncClient) -> None:
    response = await client.get("/moved")
    assert _document(response) == {
        "type": "urn:depotgrid:problem:circuit-cycle",
        "title": "Conflict",
        "status": 409,
        "detail": "k-1 would be above itself",
        "instance": "/moved",
        "code": "CIRCUIT_CYCLE",
        "circuit_id": "k-1",
    }
    assert response.headers["retry-after"] == "1"


async def test_what_is_nowhere_or_not_allowed_is_told_with_the_path(client: httpx2.AsyncClient) -> None:
    nowhere = _document(await client.get("/nowhere"))
    assert (nowhere["status"], nowhere["code"], nowhere["instance"]) == (404, "NOT_FOUND", "/nowhere")
    forbidden = await client.delete("/site")
    assert (_document(forbidden)["code"], forbidden.headers["allow"]) == ("METHOD_NOT_ALLOWED", "POST")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "/both/x", 405, "DELETE, GET, PATCH"),
        ("DELETE", "/elsewhere/x", 405, "POST"),
        ("POST", "/own", 405, "GET"),
        ("GET", "/both", 404, None),
        ("GET", "/elsewhere/x/y", 404, None),
    ],
)
async def test_a_method_that_is_not_possible_names_all_that_are_also_those_of_another_process(
    method: str, path: str, status: int, allow: str | None
) -> None:
    app, routes = FastAPI(), APIRouter()

    def nothing() -> None:
        return None

    routes.add_api_route("/own", nothing, methods=["GET"])
    routes.add_api_route("/both/{one}", nothing, methods=["PATCH"])
    routes.add_api_route("/both/{one}", nothing, methods=["DELETE"])
    app.include_router(routes)
    install_problem_answers(app, methods_described(b'{"paths": {"/both/{one}": {"get": {}}, "/elsewhere/{one}": {"post": {}}}}'))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test") as client:
        answered = await client.request(method, path)
    assert (answered.status_code, answered.headers.get("allow")) == (status, allow)
    assert answered.json()["status"] == status


async def test_the_unexpected_tells_nothing_of_its_cause(client: httpx2.AsyncClient) -> None:
    response = await client.get("/broken")
    assert (response.status_code, _document(response)["code"]) == (500, "INTERNAL_ERROR")
    assert "hunter2" not in response.text
    assert "RuntimeError" not in response.text


def test_the_openapi_document_names_the_problem_shape() -> None:
    answers = _app().openapi()["paths"]["/letters"]["get"]["responses"]["422"]["content"]
    assert answers["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/ProblemDocument"}


def test_faults_of_our_own_follow_the_same_rule() -> None:
    one, two = FieldFault("/a", "A_CODE", "a is wrong"), FieldFault("/b", "B_CODE", "b is wrong")
    assert problem_of_faults([one]).code == "A_CODE"
    assert problem_of_faults([one, two]).code == "VALIDATION_FAILED"
    assert problem_of_faults([one, two]).errors == (one, two)


@given(st.lists(st.text() | st.integers(0, 99)))
def test_a_pointer_can_be_taken_apart_again(steps: list[str | int]) -> None:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in json_pointer(steps).split("/")[1:]]
    assert parts == [str(step) for step in steps]
