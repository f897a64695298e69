"""Where a page may connect to sign somebody in: what the issuer's description says, bounded, checked, and kept while it is away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from operator_cli.embedded_process import free_port
from operator_cli.sign_in_origins import NotDescribed, as_described, origin_of, sign_in_origins
from service_runtime.health import serve

_ISSUER = "https://id.example/realm"


def _describes(**changed: object) -> Callable[[str], Awaitable[bytes]]:
    async def fetch(address: str) -> bytes:
        assert address == f"{_ISSUER}/.well-known/openid-configuration"
        told = {"issuer": _ISSUER, "token_endpoint": "https://login.example/oauth2/token", "jwks_uri": "https://keys.example/"}
        return json.dumps({**told, **changed}).encode()

    return fetch


async def test_a_page_talks_to_the_issuer_and_to_where_its_tokens_come_from() -> None:
    assert await sign_in_origins(_ISSUER, _describes()) == ("https://id.example", "https://login.example")


async def test_one_origin_for_both_is_named_once() -> None:
    assert await sign_in_origins(_ISSUER, _describes(token_endpoint="https://id.example/token")) == ("https://id.example",)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issuer": "https://other.example"}, "describes another issuer"),
        ({"issuer": None}, "describes another issuer"),
        ({"token_endpoint": None}, "names no token_endpoint"),
        ({"token_endpoint": "http://login.example/token"}, "names no token_endpoint"),
        ({"token_endpoint": "https://login.example; script-src */token"}, "names no token_endpoint"),
        ({"token_endpoint": "https://somebody:secret@login.example/token"}, "names no token_endpoint"),
    ],
)
async def test_a_description_that_can_not_be_trusted_is_told_with_its_reason(changed: dict[str, object], why: str) -> None:
    found = await sign_in_origins(_ISSUER, _describes(**changed))
    assert isinstance(found, NotDescribed)
    assert why in found.line
    assert "DEPOTGRID_OIDC_ISSUER" in found.line


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null"])
async def test_an_answer_that_is_no_description_is_told_as_such(body: bytes) -> None:
    async def fetch(_: str) -> bytes:
        return body

    assert isinstance(await sign_in_origins(_ISSUER, fetch), NotDescribed)


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://id.example/realm", "https://id.example"),
        ("https://id.example:8443/", "https://id.example:8443"),
        ("http://127.0.0.1:9000/x", "http://127.0.0.1:9000"),
        ("http://[::1]:9000/x", "http://[::1]:9000"),
        ("http://id.example/", None),
        ("https://id.exämple/", None),
        ("https://*.example/", None),
        ('https://id.example"x/', None),
        ("https://", None),
        ("nowhere", None),
    ],
)
def test_an_origin_is_a_plain_scheme_host_and_port(address: str, origin: str | None) -> None:
    assert origin_of(address) == origin


async def test_what_changes_is_told_once_and_an_issuer_that_comes_back_too() -> None:
    async def away(_: str) -> bytes:
        raise OSError("no route to host")

    elsewhere = _describes(token_endpoint="https://new.example/token")
    turns = [away, away, _describes(), _describes(), away, elsewhere]

    async def fetch(address: str) -> bytes:
        return await turns.pop(0)(address)

    seen: list[object] = []
    async with aclosing(as_described(_ISSUER, fetch, (0, 0))) as answers:
        async for found in answers:
            seen.append(found if isinstance(found, tuple) else "not to be had")
            if not turns:
                break
    assert seen == [
        "not to be had",
        ("https://id.example", "https://login.example"),
        "not to be had",
        ("https://id.example", "https://new.example"),
    ]


class _Issuer:
    """An issuer that is away until it is told to answer; its tokens come from another origin."""

    def __init__(self) -> None:
        self.answers = True
        self.url = ""
        route = Route("/.well-known/openid-configuration", self._describe)
        self.app = Starlette(routes=[route])

    async def _describe(self, _: Request) -> JSONResponse:
        told = {"issuer": self.url, "token_endpoint": "https://login.example/token"}
        return JSONResponse(told, status_code=200 if self.answers else 500)


@pytest.fixture
async def issuer() -> AsyncIterator[_Issuer]:
    one = _Issuer()
    async with serve(one.app, "127.0.0.1", 0) as port:
        one.url = f"http://127.0.0.1:{port}"
        yield one


async def _front(issuer: str, folder: Path, port: int) -> asyncio.subprocess.Process:
    config = json.dumps({"auth": "oidc", "issuer": issuer, "client_id": "depotgrid-web"})
    arguments = [str(port), "9", "9", str(folder), config, "9"]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "operator_cli.front", *arguments, stderr=subprocess.PIPE, env={**os.environ}
    )


async def _policy(port: int) -> str:
    async with asyncio.timeout(30), httpx2.AsyncClient() as http:
        while True:
            try:
                return (await http.get(f"http://127.0.0.1:{port}/")).headers["content-security-policy"]
            except httpx2.HTTPError:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("answers", [True, False])
async def test_the_first_page_has_the_policy_that_its_issuer_needs(issuer: _Issuer, tmp_path: Path, answers: bool) -> None:
    issuer.answers = answers
    port = free_port()
    front = await _front(issuer.url, tmp_path, port)
    try:
        policy = await _policy(port)
        also = " https://login.example" if answers else ""
        assert f"connect-src 'self' {issuer.url}{also};" in policy
    finally:
        front.terminate()
        _, said = await front.communicate()
    assert ("nobody can sign in at" in said.decode()) is not answers
