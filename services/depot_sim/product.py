"""The product as anybody sees it: its read API, asked for a depot's configuration and for what became of packets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx2

from depot_sim.configuration import Depot, depot_from
from depot_sim.sending import RETRY_S

_ANSWER_S = 10.0
_PATIENCE_S = 15.0
_PAGE = 500
_MOST_PAGES = 400
_OK, _NOT_FOUND = 200, 404


class ProductFault(Exception):
    """The product does not answer as it should; the text says what was asked and what came back."""


class Product:
    """The read API at an address; `headers` say who asks. What it can not answer at the moment it is asked again, for a while."""

    def __init__(self, api_url: str, headers: Mapping[str, str]) -> None:
        self._url = api_url
        self._http = httpx2.AsyncClient(timeout=_ANSWER_S, trust_env=False, headers=dict(headers))

    async def close(self) -> None:
        """Leave."""
        await self._http.aclose()

    async def depot(self, depot_id: str) -> Depot | None:
        """The depot's configuration, None where there is no such depot."""
        site = await self.get_or_none(f"/api/depot/{depot_id}/site")
        if site is None:
            return None
        return depot_from(site, await self._all("/api/sensor_action", {"depot_id": depot_id}))

    async def card(self, depot_id: str) -> Mapping[str, Any] | None:
        """The depot's microgrid card, None where it has no microgrid."""
        return await self.get_or_none(f"/api/depot/{depot_id}/microgrid/card")

    async def measurement(self, device_id: str, measurand: str) -> Mapping[str, Any] | None:
        """The latest measurement of a device, None before the first."""
        found = await self.get_or_none(f"/api/device/{device_id}/measurement")
        items: list[Mapping[str, Any]] = found["items"] if found is not None else []
        return next((one for one in items if one["measurand"] == measurand), None)

    async def newest_position(self, microgrid_id: str) -> str | None:
        """Where the microgrid's events end now, None where there are none."""
        found = await self._get(f"/api/microgrid/{microgrid_id}/event", {"limit": "1"})
        return found["items"][0]["position"] if found["items"] else None

    async def events(self, microgrid_id: str, query: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """The microgrid's events that a query of the read API selects, last recorded first."""
        return await self._all(f"/api/microgrid/{microgrid_id}/event", query)

    async def dead_letters(self, device_id: str, since: str) -> list[Mapping[str, Any]]:
        """What was refused of a device's packets since a time."""
        return await self._all("/api/dead-letter", {"device_id": device_id, "since": since})

    async def get_or_none(self, path: str) -> Mapping[str, Any] | None:
        """One document, None for a 404."""
        return await self._answer(path, {}, or_none=True)

    async def _get(self, path: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        return await self._answer(path, query, or_none=False) or {}

    async def _all(self, path: str, query: Mapping[str, str]) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await self._get(path, {**query, "limit": str(_PAGE), **({"cursor": cursor} if cursor else {})})
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found
        raise ProductFault(f"{path} has more than {_MOST_PAGES * _PAGE} entries")

    async def _answer(self, path: str, query: Mapping[str, str], *, or_none: bool) -> Mapping[str, Any] | None:
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            try:
                answer = await self._http.get(f"{self._url}{path}", params=dict(query))
            except httpx2.HTTPError as fault:
                why = str(fault) or type(fault).__name__
            else:
                if answer.status_code == _OK:
                    return answer.json()
                if answer.status_code == _NOT_FOUND and or_none:
                    return None
                why = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code < 500:
                    raise ProductFault(f"{self._url}{path}: {why}")
            if clock() - began > _PATIENCE_S:
                raise ProductFault(f"{self._url}{path}: {why}")
            await asyncio.sleep(RETRY_S)
