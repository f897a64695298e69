"""Packets posted to the command API, in order: a batch at a time, and alone what is no JSON and would spoil a batch.

The answer to a post is the product's own decision, so each packet is confirmed and, where it was refused, with the code: of the
whole packet, or of its first refused action. A product that does not answer, or answers that it can not at the moment, is asked
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import httpx2
import msgspec

from depot_sim.sending import PATIENCE_S, RETRY_S, Confirmed, Outgoing, UndeliveredError

_AT_ONCE = 500
_ANSWER_S = 15.0
_OK, _UNPROCESSABLE, _TOO_LARGE = 200, 422, 413
_REFUSED = ("REJECTED", "REMEDIATION")


class HttpSender:
    """Posts to one API; `headers` say who asks."""

    def __init__(self, api_url: str, headers: Mapping[str, str], *, patience_s: float = PATIENCE_S) -> None:
        self._url = api_url
        self._headers = {**headers, "Content-Type": "application/json"}
        self._patience_s = patience_s
        self._http = self._open()

    async def send(self, packets: Sequence[Outgoing], confirmed: Confirmed) -> None:
        """Return when all are decided; UndeliveredError when the API decides nothing for too long, or refuses to be asked."""
        for is_json, group in groupby(packets, _is_json):
            together = list(group)
            size = _AT_ONCE if is_json else 1
            for first in range(0, len(together), size):
                await self._post(together[first : first + size], confirmed)

    async def reconnect(self) -> None:
        """Drop all connections; the next packet makes a new one."""
        await self._http.aclose()
        self._http = self._open()

    async def close(self) -> None:
        """Leave."""
        await self._http.aclose()

    async def _post(self, packets: Sequence[Outgoing], confirmed: Confirmed) -> None:
        alone = len(packets) == 1
        body = packets[0].body if alone else b"[" + b",".join(packet.body for packet in packets) + b"]"
        answer = await self._answer("/api/packet" if alone else "/api/packet/batch", body)
        if not alone and answer.status_code != _OK:
            raise UndeliveredError(f"the API at {self._url} takes no batch: it answers {answer.status_code} {_code(answer)}")
        document: dict[str, Any] = answer.json()
        results = [document] if alone else document["results"]
        for packet, result in zip(packets, results, strict=True):
            confirmed(packet.number, _refusal(result))

    async def _answer(self, path: str, body: bytes) -> httpx2.Response:
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            try:
                answer = await self._http.post(f"{self._url}{path}", content=body, headers=self._headers)
            except httpx2.HTTPError as fault:
                why = str(fault) or type(fault).__name__
            else:
                if answer.status_code in (_OK, _UNPROCESSABLE, _TOO_LARGE):
                    return answer
                why = f"it answers {answer.status_code} {_code(answer)}"
                if answer.status_code < 500:
                    raise UndeliveredError(f"the API at {self._url} takes no packets: {why}")
            if clock() - began > self._patience_s:
                raise UndeliveredError(f"the API at {self._url} takes no packets: {why}")
            await asyncio.sleep(RETRY_S)

    @staticmethod
    def _open() -> httpx2.AsyncClient:
        return httpx2.AsyncClient(timeout=_ANSWER_S, trust_env=False)


def _is_json(packet: Outgoing) -> bool:
    try:
        msgspec.json.decode(packet.body)
    except msgspec.MsgspecError:
        return False
    return True


def _refusal(result: Mapping[str, Any]) -> str | None:
    if result.get("code") is not None:
        return str(result["code"])
    refused = [one for one in result.get("outcomes") or () if one["outcome"] in _REFUSED]
    return str(refused[0]["code"]) if refused else None


def _code(answer: httpx2.Response) -> str:
    try:
        return str(answer.json().get("code", ""))
    except (msgspec.MsgspecError, ValueError, AttributeError):
        return ""
