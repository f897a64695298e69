"""The read API on a real database, with a clock that the test turns."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx2
import jsonschema
import pytest
from tests.read_api.seed import T0, put_site

from event_store.database import Pool, open_pool
from read_api.app import ReadApi, create_app
from read_api.openapi import openapi_text
from service_runtime import health
from service_runtime.access import Access
from service_runtime.feature_flags import FeatureFlags, load_flags


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


class Reader:
    """Asks the API, and holds every answer to the published description."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self._contract = json.loads(openapi_text())

    async def get(self, path: str, /, **params: Any) -> dict[str, Any]:
        """A good answer's document."""
        answered = await self.http.get(path, params=params or None)
        assert answered.status_code == 200, answered.text
        document = answered.json()
        self._validate(path, document)
        return document

    async def problem(self, path: str, expected: int, code: str, /, **params: Any) -> dict[str, Any]:
        """A refusal's document, after checking what it says."""
        answered = await self.http.get(path, params=params or None)
        assert (answered.status_code, answered.json()["code"]) == (expected, code), answered.text
        assert answered.headers["content-type"] == "application/problem+json"
        return answered.json()

    def _validate(self, path: str, document: Any) -> None:
        for template, operations in self._contract["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                schema = operations["get"]["responses"]["200"]["content"]["application/json"]["schema"]
                jsonschema.validate(document, {**schema, "components": self._contract["components"]})
                return
        raise AssertionError(f"{path} is not described")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, "tests", min_size=1, max_size=16)
    yield opened
    await opened.close()


@pytest.fixture
def read_api(pool: Pool, clock: Clock) -> ReadApi:
    flags = load_flags(None)
    assert isinstance(flags, FeatureFlags)
    return create_app(pool, clock, flags, Access(None))


@pytest.fixture
async def reader(read_api: ReadApi) -> AsyncIterator[Reader]:
    transport = httpx2.ASGITransport(app=read_api.app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://depotgrid") as http:
        yield Reader(http)


@pytest.fixture
async def site(pool: Pool) -> None:
    await put_site(pool)


@pytest.fixture
async def address(read_api: ReadApi) -> AsyncIterator[str]:
    """Where a real server answers, for what a transport in memory can not do."""
    async with health.serve(read_api.app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}"
        read_api.streams.end()
