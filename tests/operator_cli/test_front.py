"""The one address of both APIs: each request to its own, bodies and streams as they come, hanging up passed on."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from operator_cli.embedded_process import free_port
from operator_cli.front import Front, front_app, open_client
from service_runtime.health import serve

_ALL = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class _Api:
    """Says what reached it; its stream gives one part, then waits until it is let go or the client hangs up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/api/stream", self._stream),
                Route("/api/compressed", self._compressed),
                Route("/{path:path}", self._echo, methods=_ALL),
            ],
        )

    async def _echo(self, request: Request) -> Response:
        body = await request.body()
        told = {
            "api": self.name,
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "length": len(body),
            "host": request.headers["host"],
            "cookie": request.headers.get("cookie"),
            "accept_encoding": request.headers.get("accept-encoding"),
        }
        return JSONResponse(told, status_code=207, headers={"X-Told": "yes"})

    async def _compressed(self, _: Request) -> Response:
        return Response(gzip.compress(b"compressed", mtime=0), headers={"Content-Encoding": "gzip", "ETag": '"a-gzip"'})

    async def _stream(self, _: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            try:
                yield b"first\n"
                await asyncio.Event().wait()
            finally:
                self.ended.set()

        return StreamingResponse(parts(), media_type="text/event-stream")


class _Running:
    def __init__(self, url: str, read: _Api, command: _Api) -> None:
        self.url, self.read, self.command = url, read, command


@pytest.fixture
async def front() -> AsyncIterator[_Running]:
    read, command = _Api("read"), _Api("command")
    async with contextlib.AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(serve(api.app, "127.0.0.1", 0)) for api in (read, command, _Api("runs"))]
        http = await stack.enter_async_context(open_client())
        read_url, command_url, runs_url = (f"http://127.0.0.1:{port}" for port in ports)
        app = front_app(http, read_url, command_url, None, runs_url)
        port = await stack.enter_async_context(serve(app, "127.0.0.1", 0))
        yield _Running(f"http://127.0.0.1:{port}", read, command)


@pytest.mark.parametrize(
    ("method", "path", "api"),
    [
        ("GET", "/api/depot", "read"),
        ("OPTIONS", "/api/depot", "read"),
        ("POST", "/api/depot", "command"),
        ("PUT", "/api/depot/d/site", "command"),
        ("PATCH", "/api/depot/d", "command"),
        ("DELETE", "/api/depot/d", "command"),
        ("POST", "/auth/dev/sign-in", "read"),
        ("GET", "/readyz", "read"),
        ("GET", "/api/sim/run", "runs"),
        ("GET", "/", "read"),
    ],
)
async def test_each_request_goes_to_its_api(front: _Running, method: str, path: str, api: str) -> None:
    async with httpx2.AsyncClient() as http:
        answered = await http.request(method, front.url + path)
    assert answered.status_code == 207
    assert (answered.json()["api"], answered.json()["method"], answered.json()["path"]) == (api, method, path)


async def test_what_was_sent_arrives_as_it_was_sent(front: _Running) -> None:
    async with httpx2.AsyncClient() as http:
        path = "/api/circuit/a%2Fb?x=%2B1&x=2"
        answered = await http.patch(front.url + path, content=b"x" * 3_000_000, headers={"Host": "depot.example", "Cookie": "a=b"})
    told = answered.json()
    assert (told["path"], told["query"], told["length"]) == ("/api/circuit/a%2Fb", "x=%2B1&x=2", 3_000_000)
    assert (told["host"], told["cookie"], answered.headers["x-told"]) == ("depot.example", "a=b", "yes")


async def test_a_compressed_answer_stays_as_it_is(front: _Running) -> None:
    async with httpx2.AsyncClient() as http, http.stream("GET", f"{front.url}/api/compressed") as answered:
        sent = b"".join([part async for part in answered.aiter_raw()])
    assert (answered.headers["content-encoding"], answered.headers["etag"]) == ("gzip", '"a-gzip"')
    assert sent == gzip.compress(b"compressed", mtime=0)


@pytest.mark.parametrize("accepted", ["gzip", "identity", None])
async def test_compression_is_asked_for_only_if_the_client_does(front: _Running, accepted: str | None) -> None:
    async with httpx2.AsyncClient() as http:
        del http.headers["accept-encoding"]
        answered = await http.get(f"{front.url}/api/depot", headers={"Accept-Encoding": accepted} if accepted else {})
    assert answered.json()["accept_encoding"] == accepted


async def test_a_body_of_unknown_length_is_passed_on(front: _Running) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"abc"

    async with httpx2.AsyncClient() as http:
        assert (await http.post(f"{front.url}/api/packet", content=parts())).json()["length"] == 9


async def test_a_stream_arrives_as_it_comes_and_ends_when_the_client_goes(front: _Running) -> None:
    async with asyncio.timeout(20), httpx2.AsyncClient() as http:
        async with http.stream("GET", f"{front.url}/api/stream") as answered:
            assert answered.headers["content-type"].startswith("text/event-stream")
            assert await anext(answered.aiter_raw()) == b"first\n"
            assert not front.read.ended.is_set()
        await front.read.ended.wait()


async def test_an_api_that_is_away_is_told_as_such() -> None:
    async with open_client() as http:
        away = f"http://127.0.0.1:{free_port()}"
        app = Front(http, away, away)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://depotgrid") as caller:
            answered = await caller.get("/api/depot")
    assert (answered.status_code, answered.json()["code"], answered.headers["retry-after"]) == (503, "SERVICE_UNAVAILABLE", "1")
