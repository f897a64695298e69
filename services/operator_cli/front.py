"""One address for the pages and both APIs on one machine: what reads goes to the read API, what changes to the command API.

Under `/api/` every method but GET, HEAD and OPTIONS changes something; probes, metrics and signing in are the read API's; what
else is looked at is a web page (`pages.py`); below `/api/sim/` are the simulator's runs. Bodies are passed on as they come, in
both directions, so that streams stay streams; when either side hangs up, so does the other. An API that is away, being started
again, is a 503 that says to try again.

`python -m operator_cli.front PORT READ_PORT COMMAND_PORT PAGES_FOLDER SIGN_IN_CONFIG RUNS_PORT` is a process of `depotgrid up`;
elsewhere a proxy does this (`deploy/nginx.conf`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import msgspec
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from operator_cli.pages import Pages, SignInConfig
from operator_cli.sign_in_origins import NotDescribed, as_described
from service_runtime.health import ListenError, serve
from service_runtime.problem import MEDIA_TYPE, Problem

_HOST = "127.0.0.1"
_RUNS = "/api/sim/"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
# Of one connection and not of the message (RFC 9110, section 7.6.1); who sends them on breaks the framing.
_OF_A_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"}
)
_CONNECT_S = 5.0
_MOST_CONNECTIONS = 1000
_KEPT_OPEN = 100


class Front:
    """An ASGI application that serves the pages, if there are any, and passes the other requests on."""

    def __init__(
        self, http: httpx2.AsyncClient, read_url: str, command_url: str, pages: Pages | None = None, runs_url: str | None = None
    ) -> None:
        self._http = http
        self._read_url = read_url
        self._command_url = command_url
        self._pages = pages
        self._runs_url = runs_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await _live(receive, send)
            return
        if self._pages is not None and self._pages.is_ours(scope["method"], scope["path"]):
            await self._pages.answer(scope, send)
            return
        await self._pass_on(scope, receive, send)

    def url_for(self, method: str, path: str) -> str:
        """The API that a request is for."""
        if self._runs_url is not None and path.startswith(_RUNS):
            return self._runs_url
        return self._command_url if method not in _READING and path.startswith("/api/") else self._read_url

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        query: bytes = scope["query_string"]
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        target = raw_path + (b"?" + query if query else b"")
        headers = [(name, value) for name, value in scope["headers"] if name not in _OF_A_CONNECTION]
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])
        address = httpx2.URL(self.url_for(scope["method"], scope["path"])).copy_with(raw_path=target)
        received = _Received(receive)
        request = self._http.build_request(scope["method"], address, headers=headers, content=received.body() if has_body else None)
        try:
            response = await self._http.send(request, stream=True)
        except httpx2.HTTPError:
            await _unavailable(scope, send)
            return
        try:
            await _answer(response, received, send)
        finally:
            await response.aclose()


class _Received:
    """What the client sends: the body, and after it only that it has gone."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = False

    async def body(self) -> AsyncGenerator[bytes]:
        while not self._complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise httpx2.ReadError("the client hung up")
            self._complete = not message.get("more_body", False)
            yield message.get("body", b"")

    async def hung_up(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _answer(response: httpx2.Response, received: _Received, send: Send) -> None:
    # The server in front dates its answers itself.
    left_out = {*_OF_A_CONNECTION, b"date"}
    headers = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in left_out]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})

    async def pump() -> None:
        async for part in response.aiter_raw():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    pumping, listening = asyncio.create_task(pump()), asyncio.create_task(received.hung_up())
    try:
        await asyncio.wait({pumping, listening}, return_when=asyncio.FIRST_COMPLETED)
        if pumping.done():
            pumping.result()
    finally:
        for task in (pumping, listening):
            task.cancel()
        await asyncio.gather(pumping, listening, return_exceptions=True)


async def _unavailable(scope: Scope, send: Send) -> None:
    problem = Problem(503, "SERVICE_UNAVAILABLE", "this part of Depotgrid is being started again; try again in a moment")
    body = msgspec.json.encode(problem.document(scope["path"]))
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode()), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def front_app(
    http: httpx2.AsyncClient, read_url: str, command_url: str, pages: Pages | None = None, runs_url: str | None = None
) -> ASGIApp:
    """The application, on a client, the addresses of both APIs, the pages, and the address of the simulator's runs."""
    return Front(http, read_url, command_url, pages, runs_url)


def open_client() -> httpx2.AsyncClient:
    """A client that waits for an answer as long as it takes: a stream may be silent, and a command has its own bounds.

    It adds no header of its own: whoever did not say that it takes compressed answers must not get one.
    """
    timeout = httpx2.Timeout(None, connect=_CONNECT_S)
    limits = httpx2.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_KEPT_OPEN)
    client = httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=False, follow_redirects=False)
    client.headers.clear()
    return client


async def _run(port: int, read_port: int, command_port: int, runs_port: int, pages: Pages, issuer: str | None) -> None:
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    async with open_client() as http:
        read_url, command_url, runs_url = (f"http://{_HOST}:{one}" for one in (read_port, command_port, runs_port))
        app = front_app(http, read_url, command_url, pages, runs_url)
        async with _knowing_where_to_sign_in(pages, issuer), serve(app, _HOST, port):
            await stop.wait()


@asynccontextmanager
async def _knowing_where_to_sign_in(pages: Pages, issuer: str | None) -> AsyncGenerator[None]:
    """While it lasts, pages may talk to where they sign in; before it begins the issuer has been asked, or was given its time."""
    if issuer is None:
        yield
        return
    answers = as_described(issuer)

    def take(found: tuple[str, ...] | NotDescribed) -> None:
        if isinstance(found, NotDescribed):
            sys.stderr.write(f"depotgrid front: {found.line}\n")
            sys.stderr.flush()
        else:
            pages.allow(found)

    async def go_on() -> None:
        async for found in answers:
            take(found)

    # Before the first page goes out, so that its policy lets it sign in.
    take(await anext(answers))
    reading = asyncio.create_task(go_on())
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def run() -> int:
    """Serve until a signal; 1 with one line when the port can not be had."""
    port, read_port, command_port = (int(given) for given in sys.argv[1:4])
    config = msgspec.json.decode(sys.argv[5], type=SignInConfig)
    pages = Pages(Path(sys.argv[4]), config)
    issuer = config.issuer if config.auth == "oidc" else None
    try:
        with suppress(asyncio.CancelledError):
            uvloop.run(_run(port, read_port, command_port, int(sys.argv[6]), pages, issuer))
    except ListenError as fault:
        sys.stderr.write(f"depotgrid front: {fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run())
