"""Every code that the description of the questions promises is answered to a question of this page, under the status it stands for.

A new code fails the first test until it has a row here, or in `SEEN_ELSEWHERE` the name of the test that sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import httpx2
import pytest
from tests.contracts.http_codes import missing_in, promised
from tests.read_api.conftest import Clock, Reader
from tests.read_api.seed import MICROGRID, T0, run
from tests.service_runtime.identity import ISSUER, claims, jwks, keys_of, signed

from event_store.database import Pool
from read_api.app import ReadApi, create_app
from service_runtime.access import Access
from service_runtime.access_tokens import AccessTokens, KeysUnavailable, same_issuer
from service_runtime.feature_flags import FeatureFlags, load_flags

_NOWHERE = "01900000-0000-7000-8000-0000000000ff"

SEEN_ELSEWHERE = {
    "SERVICE_UNAVAILABLE": "tests/operator_cli/test_front.py::test_an_api_that_is_away_is_told_as_such",
}
"""What can not be asked for here, and where it is."""

QUESTIONS: dict[str, tuple[int, str]] = {
    "CHARGE_POINT_NOT_FOUND": (404, "/api/charge_point/nobody"),
    "CIRCUIT_NOT_FOUND": (404, "/api/circuit/nobody"),
    "CONNECTOR_NOT_FOUND": (404, "/api/connector/nobody"),
    "CONTROLLER_BINDING_NOT_FOUND": (404, f"/api/controller-binding/{_NOWHERE}"),
    "DEAD_LETTER_NOT_FOUND": (404, f"/api/dead-letter/{_NOWHERE}"),
    "DEPOT_NOT_FOUND": (404, "/api/depot/nobody"),
    "DEVICE_NOT_FOUND": (404, "/api/device/nobody"),
    "GATEWAY_NOT_FOUND": (404, "/api/gateway/nobody"),
    "INVALID_CURSOR": (422, "/api/depot?cursor=x"),
    "INVALID_TIMESTAMP": (422, "/api/dead-letter?since=yesterday"),
    "INVALID_VALUE": (422, "/api/depot?limit=0"),
    "MICROGRID_NOT_FOUND": (404, "/api/depot/old/microgrid"),
    "MISSING_FIELD": (422, "/api/device/ctrl-1/measurement/history"),
    "NOT_FOUND": (404, "/api/lunch"),
    "POWER_SOURCE_NOT_FOUND": (404, "/api/power_source/nobody"),
    "REPLAY_JOB_NOT_FOUND": (404, f"/api/dead-letter/replay/{_NOWHERE}"),
    "SENSOR_ACTION_NOT_FOUND": (404, f"/api/sensor_action/{_NOWHERE}"),
    "UNKNOWN_FIELD": (422, "/api/depot?limt=1"),
    "VALIDATION_FAILED": (422, "/api/dead-letter?stage=LUNCH&status=LUNCH"),
}


@dataclass
class Around:
    """What a question is asked with."""

    pool: Pool
    clock: Clock
    api: ReadApi
    reader: Reader

    async def by_token(self, keys: Callable[[str | None], Any], **told: Any) -> httpx2.Response:
        """The answer to somebody whose token says this."""
        now_s = int(T0.timestamp())
        token = signed(claims(**{"iat": now_s, "exp": now_s + 60, **told}))
        return await self.ask(_guarded(self, keys), {"Authorization": f"Bearer {token}"})

    async def ask(self, api: ReadApi, headers: dict[str, str] | None = None) -> httpx2.Response:
        """The answer of another application on the same database."""
        transport = httpx2.ASGITransport(app=api.app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://depotgrid") as http:
            return await http.get("/api/depot", headers=headers)


def _flags() -> FeatureFlags:
    flags = load_flags(None)
    assert isinstance(flags, FeatureFlags)
    return flags


def _guarded(around: Around, keys: Callable[[str | None], Any]) -> ReadApi:
    access = Access(AccessTokens(keys, same_issuer(ISSUER), around.clock))
    return create_app(around.pool, around.clock, _flags(), access)


async def _no_keys(_: str | None) -> KeysUnavailable:
    return KeysUnavailable()


async def _on_a_stream_that_ends(around: Around) -> httpx2.Response:
    around.api.streams.end()
    return await around.reader.http.get(f"/api/microgrid/{MICROGRID}/stream")


async def _without_database(around: Around) -> httpx2.Response:
    await around.pool.close()
    return await around.reader.http.get("/api/depot")


CIRCUMSTANCES: dict[str, tuple[int, Callable[[Around], Awaitable[httpx2.Response]]]] = {
    "FORBIDDEN": (403, lambda around: around.by_token(keys_of(jwks()), roles=["device"])),
    "IDENTITY_PROVIDER_UNAVAILABLE": (503, lambda around: around.by_token(_no_keys)),
    "INTERNAL_ERROR": (
        500,
        lambda around: around.ask(create_app(cast("Pool", object()), around.clock, _flags(), Access(None))),
    ),
    "METHOD_NOT_ALLOWED": (405, lambda around: around.reader.http.post("/api/depot", json={})),
    "STREAM_UNAVAILABLE": (503, _on_a_stream_that_ends),
    "TOKEN_EXPIRED": (401, lambda around: around.by_token(keys_of(jwks()), exp=int(T0.timestamp()) - 60)),
    "TOKEN_INVALID": (401, lambda around: around.by_token(keys_of(jwks()), iss="https://somebody.example")),
    "UNAUTHENTICATED": (401, lambda around: around.ask(_guarded(around, keys_of(jwks())))),
    # Last, for it takes the database away.
    "DATABASE_UNAVAILABLE": (503, _without_database),
}


def test_every_code_that_is_promised_is_seen_by_a_test_and_no_other() -> None:
    here = QUESTIONS.keys() | CIRCUMSTANCES.keys()
    assert promised("read") - here - SEEN_ELSEWHERE.keys() == set(), "add a row for each, or name the test that sees it"
    assert here - promised("read") == set(), "not in CODES of services/read_api/openapi.py"
    assert [why for code, test in SEEN_ELSEWHERE.items() if (why := missing_in(code, test))] == []


@pytest.mark.usefixtures("site")
async def test_every_question_of_this_page_is_refused_with_its_code(reader: Reader, pool: Pool) -> None:
    await run(pool, "INSERT INTO depot (depot_id, name, timezone) VALUES ('old', 'Old', 'UTC')")
    for code, (status, address) in QUESTIONS.items():
        await reader.problem(address, status, code)


@pytest.mark.usefixtures("site")
async def test_every_circumstance_of_this_page_is_told_with_its_code(
    pool: Pool, clock: Clock, read_api: ReadApi, reader: Reader
) -> None:
    around = Around(pool, clock, read_api, reader)
    for code, (status, ask) in CIRCUMSTANCES.items():
        answered = await ask(around)
        assert (answered.status_code, answered.json()["code"]) == (status, code), answered.text
        assert answered.headers["content-type"] == "application/problem+json"
