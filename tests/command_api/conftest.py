"""The command API and the read API on one real database, with a clock that the test turns."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpx2
import jsonschema
import pytest
import uuid_utils
from starlette.requests import Request

from command_api.app import create_app
from command_api.openapi import openapi_text
from event_store.database import Pool, open_pool
from read_api.app import create_app as create_read_app
from service_runtime.access import Access, Principal
from service_runtime.feature_flags import FeatureFlags, load_flags

T0 = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


@cache
def _contract() -> dict[str, Any]:
    return json.loads(openapi_text())


class Origin:
    """One origin: GET goes to the read API, everything else to the command API, whose answers are held to its description."""

    def __init__(self, commands: httpx2.AsyncClient, reads: httpx2.AsyncClient) -> None:
        self.commands = commands
        self.reads = reads
        self._contract = _contract()

    async def get(self, path: str, expected: int = 200, /, **params: Any) -> dict[str, Any]:
        """An answer of the read API."""
        answered = await self.reads.get(path, params=params or None)
        assert answered.status_code == expected, answered.text
        return answered.json()

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        expected: int = 200,
        /,
        *,
        key: str | None = None,
        if_match: str | None = None,
    ) -> dict[str, Any]:
        """The document of a command's answer, {} where it has none."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        if if_match is not None:
            headers["If-Match"] = if_match
        given: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        answered = await self.commands.request(method, path, headers=headers, **given)
        assert answered.status_code == expected, answered.text
        self._validate(method, path, answered)
        return answered.json() if answered.content else {}

    async def post(self, path: str, body: Any = None, expected: int = 201, /, *, key: str | None = None) -> dict[str, Any]:
        return await self.send("POST", path, body, expected, key=key)

    async def patch(self, path: str, body: Any, expected: int = 200, /) -> dict[str, Any]:
        return await self.send("PATCH", path, body, expected)

    async def put(self, path: str, body: Any, expected: int = 200, /) -> dict[str, Any]:
        return await self.send("PUT", path, body, expected)

    async def delete(self, path: str, expected: int = 204, /) -> dict[str, Any]:
        return await self.send("DELETE", path, None, expected)

    def _validate(self, method: str, path: str, answered: httpx2.Response) -> None:
        for template, operations in self._contract["paths"].items():
            if method.lower() in operations and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path.partition("?")[0]):
                described = operations[method.lower()]["responses"][str(answered.status_code)]
                if not answered.content:
                    assert "content" not in described, path
                    return
                media_type = answered.headers["content-type"].partition(";")[0]
                schema = described["content"][media_type]["schema"]
                jsonschema.validate(answered.json(), {**schema, "components": self._contract["components"]})
                return
        raise AssertionError(f"{method} {path} is not described")


class AccessAs(Access):
    """Access that takes everyone for one principal."""

    def __init__(self, principal: Principal) -> None:
        super().__init__(None)
        self._principal = principal

    async def authenticate(self, request: Request) -> Principal:
        request.state.principal = self._principal
        return self._principal


def codes(problem: dict[str, Any]) -> list[tuple[str, str]]:
    """Pointer and code of each fault of a problem."""
    return [(fault["pointer"], fault["code"]) for fault in problem["errors"]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    # As many as ever ask at once in a test, so that nobody is refused for having waited for one on a busy machine.
    opened = await open_pool(database_url, "tests", min_size=1, max_size=16)
    yield opened
    await opened.close()


@pytest.fixture
async def origin(pool: Pool, clock: Clock) -> AsyncIterator[Origin]:
    flags = load_flags(None)
    assert isinstance(flags, FeatureFlags)
    apps = (
        create_app(pool, clock, lambda: str(uuid_utils.uuid7()), Access(None)),
        create_read_app(pool, clock, flags, Access(None)).app,
    )
    async with AsyncExitStack() as stack:
        commands, reads = [
            await stack.enter_async_context(
                httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://depotgrid")
            )
            for app in apps
        ]
        yield Origin(commands, reads)


def depot(depot_id: str = "d", *circuits: dict[str, Any]) -> dict[str, Any]:
    """The body that creates a depot, with one grid connection `{depot_id}-gc` where nothing else is said."""
    return {
        "depot_id": depot_id,
        "name": "Depot",
        "timezone": "UTC",
        "circuits": list(circuits) or [{"circuit_id": f"{depot_id}-gc", "name": "Grid connection", "rating_kw": 500}],
    }


@pytest.fixture
async def site(origin: Origin) -> dict[str, Any]:
    """Depot `d` with one of everything, made by commands; gives the answers by path."""
    made = {"depot": await origin.post("/api/depot", depot())}
    for kind, body in (
        ("circuit", {"circuit_id": "k", "depot_id": "d", "parent_circuit_id": "d-gc", "name": "Chargers", "rating_kw": 180}),
        ("charge_point", {"charge_point_id": "cp", "circuit_id": "k", "name": "Bay", "max_kw": 150}),
        ("connector", {"connector_id": "cp-1", "charge_point_id": "cp", "number": 1}),
        ("power_source", {"power_source_id": "bess", "depot_id": "d", "circuit_id": "d-gc", "kind": "BATTERY", "name": "Battery"}),
        ("gateway", {"gateway_id": "gw", "depot_id": "d", "name": "Gateway", "output_translation": {"GEN": "bess"}}),
        ("device", {"device_id": "dev", "gateway_id": "gw", "circuit_id": "d-gc"}),
        ("sensor_action", {"device_id": "dev", "measurand": "SOC", "action": "RECORD_MEASUREMENT"}),
    ):
        made[kind] = await origin.post(f"/api/{kind}", body)
    return made


async def event_types(pool: Pool) -> list[str]:
    """The types of all events in the order in which they were stored."""
    return [row[0] for row in await pool.fetch("SELECT event_type FROM event_store ORDER BY transaction_id, global_position")]


@pytest.fixture
async def rival(origin: Origin, site: dict[str, Any]) -> str:
    """A second device of depot d."""
    await origin.post("/api/device", {"device_id": "rival", "gateway_id": "gw"})
    return "rival"
