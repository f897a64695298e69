"""The keys of an OIDC issuer, found by discovery, kept, and fetched anew when it matters.

They are read from the `jwks_uri` of `{issuer}/.well-known/openid-configuration`. Kept keys are read anew after ten minutes of
use, and at once for a key id that is not among them (the issuer has changed its key); but never twice within ten seconds, so that
invented key ids cost the issuer and us nothing. Where the issuer does not answer, kept keys stand for a day; after that, or
without any, `KeysUnavailable`. One request fetches; those that need its result wait for it. Both addresses are https, or http on
loopback; redirections are not followed, answers not read beyond their bound, and an answer takes five seconds at most.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import cast
from urllib.parse import urlsplit

import httpx2
import structlog

from service_runtime.access_tokens import KeysUnavailable, PublicKey, public_keys, same_issuer
from service_runtime.settings import is_loopback

CONFIGURATION = "/.well-known/openid-configuration"
READ_ANEW_AFTER = timedelta(minutes=10)
STAND_FOR = timedelta(days=1)
NOT_SOONER = timedelta(seconds=10)
_FETCH_S = 5.0
_OK = 200
_BYTES_LIMIT = 512 * 1024

_log = structlog.get_logger(__name__)

Fetch = Callable[[str], Awaitable[bytes]]
"""Gives the body behind an address; raises OSError, ValueError or httpx2.HTTPError when there is none."""


class IssuerKeys:
    """The keys of one issuer; `find` is the `KeysOf` of `AccessTokens`. `clock` gives aware times."""

    def __init__(self, issuer: str, clock: Callable[[], datetime], fetch: Fetch | None = None) -> None:
        self._issuer = issuer.rstrip("/")
        self._clock = clock
        self._fetch = fetch or fetch_bounded
        self._keys: tuple[PublicKey, ...] = ()
        self._read_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._reading = asyncio.Lock()

    async def find(self, kid: str | None) -> Sequence[PublicKey] | KeysUnavailable:
        """The keys with an id, or all for None."""
        missing = not self._stand(STAND_FOR) or (kid is not None and not self._named(kid))
        # Keys that are there and merely old are good enough for everyone but the one who reads them anew.
        if missing or not (self._stand(READ_ANEW_AFTER) or self._reading.locked()):
            await self._read_anew()
        if not self._stand(STAND_FOR):
            return KeysUnavailable()
        return self._keys if kid is None else self._named(kid)

    def _named(self, kid: str) -> Sequence[PublicKey]:
        return [key for key in self._keys if key.kid == kid]

    def _stand(self, age: timedelta) -> bool:
        return _within(self._read_at, self._clock(), age)

    async def _read_anew(self) -> None:
        async with self._reading:
            if _within(self._tried_at, self._clock(), NOT_SOONER):
                return
            self._tried_at = self._clock()
            try:
                async with asyncio.timeout(_FETCH_S):
                    keys = public_keys(await self._fetch(await self._address_of_keys()))
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as fault:
                _log.warning("the issuer's keys can not be had", issuer=self._issuer, fault=f"{type(fault).__name__}: {fault}")
                return
            self._keys, self._read_at = keys, self._clock()
            _log.info("the issuer's keys are read", issuer=self._issuer, keys=len(keys))

    async def _address_of_keys(self) -> str:
        document: object = json.loads(await self._fetch(self._issuer + CONFIGURATION))
        told = cast("dict[str, object]", document) if isinstance(document, dict) else {}
        issuer, address = told.get("issuer"), told.get("jwks_uri")
        if not isinstance(issuer, str) or not same_issuer(self._issuer)(issuer):
            raise ValueError("its configuration names another issuer")
        if not isinstance(address, str) or not is_safe(address):
            raise ValueError("its configuration has no safe jwks_uri")
        return address


async def fetch_bounded(address: str) -> bytes:
    """The body of a 200 answer, at most 512 KiB."""
    body = bytearray()
    async with httpx2.AsyncClient(timeout=_FETCH_S) as http, http.stream("GET", address) as answer:
        if answer.status_code != _OK:
            raise ValueError(f"{address} answers {answer.status_code}")
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > _BYTES_LIMIT:
                raise ValueError(f"{address} answers with more than {_BYTES_LIMIT} bytes")
    return bytes(body)


def is_safe(address: str) -> bool:
    """Whether nobody on the way can change what an address says: https, or this machine itself."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def _within(moment: datetime | None, now: datetime, age: timedelta) -> bool:
    return moment is not None and abs(now - moment) < age
