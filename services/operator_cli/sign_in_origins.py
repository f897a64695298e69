"""Which other addresses a page talks to while somebody signs in: the issuer's, and that of its token endpoint.

A page asks the issuer to describe itself (`/.well-known/openid-configuration`) and exchanges its code for a token where that
description says, which may be another host. Both are connections that the pages' policy has to allow. Where a person is sent to
it need not: that is leaving the page. Keys are the services' affair.

The description is taken as the services take it (`service_runtime.issuer_keys`): https or loopback, no redirections, bounded in
time and length, and of the issuer that was asked. An origin ends up in a header and in a web server's configuration, so one that
is not plainly a scheme, a host and a port is refused.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httpx2

from service_runtime.access_tokens import same_issuer
from service_runtime.issuer_keys import CONFIGURATION, Fetch, fetch_bounded, is_safe

READ_ANEW_S = 600.0
"""How long origins are kept before the issuer is asked again."""
TRY_AGAIN_S = 10.0
"""The pause after an issuer that said nothing usable."""
_READ_S = 5.0
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class NotDescribed:
    """An issuer's origins are not to be had; `line` says why, for a person."""

    line: str


def origin_of(address: str) -> str | None:
    """Scheme, host and port of an address; None where it has no plain ones, or where others could read along."""
    try:
        parts = urlsplit(address)
        origin = f"{parts.scheme}://{parts.netloc}"
        return origin if is_safe(address) and _ORIGIN.fullmatch(origin) else None
    except ValueError:
        return None


async def sign_in_origins(issuer: str, fetch: Fetch = fetch_bounded) -> tuple[str, ...] | NotDescribed:
    """The origins that a page of this issuer connects to, the issuer's own first, each once."""
    address = issuer.rstrip("/") + CONFIGURATION

    def missing(why: str) -> NotDescribed:
        return NotDescribed(f"nobody can sign in at {issuer} now: {address} {why}; check DEPOTGRID_OIDC_ISSUER and the way there")

    try:
        async with asyncio.timeout(_READ_S):
            document: object = json.loads(await fetch(address))
    except TimeoutError:
        return missing(f"does not answer within {_READ_S:g} s")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as fault:
        return missing(f"can not be read ({type(fault).__name__}: {fault})")
    told = cast("dict[str, object]", document) if isinstance(document, dict) else {}
    named, endpoint = told.get("issuer"), told.get("token_endpoint")
    if not isinstance(named, str) or not same_issuer(issuer)(named):
        return missing("describes another issuer")
    own, tokens = origin_of(issuer), origin_of(endpoint) if isinstance(endpoint, str) else None
    if own is None or tokens is None:
        return missing("names no token_endpoint that is https on a plain host")
    return tuple(dict.fromkeys((own, tokens)))


async def as_described(
    issuer: str, fetch: Fetch = fetch_bounded, pauses_s: tuple[float, float] = (READ_ANEW_S, TRY_AGAIN_S)
) -> AsyncGenerator[tuple[str, ...] | NotDescribed]:
    """The origins at once, and then whenever they, or the reason why they are not to be had, have become others.

    `pauses_s` are those after a good and after a bad answer.
    """
    last: tuple[str, ...] | NotDescribed | None = None
    while True:
        found = await sign_in_origins(issuer, fetch)
        if found != last:
            yield found
        last = found
        await asyncio.sleep(pauses_s[isinstance(found, NotDescribed)])
