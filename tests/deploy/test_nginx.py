"""`deploy/nginx.conf` in a real nginx: what it answers is what `depotgrid up` answers, pages, both APIs and streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.real_services.waiting import until

from command_api.main import serve as serve_command_api
from operator_cli.embedded_process import free_port
from operator_cli.front import front_app, open_client
from operator_cli.pages import Pages, SignInConfig
from operator_cli.pages_command import write_pages
from read_api.main import serve as serve_read_api
from service_runtime.health import serve
from service_runtime.settings import Settings

_ROOT = Path(__file__).parents[2]
_CONF = (_ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
_SIGN_IN = SignInConfig("oidc", "https://id.example/realm", "depotgrid-web")
_ORIGINS = ("https://id.example", "https://login.example")
_ALL = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# What a distribution's nginx.conf has around conf.d, as far as it matters.
_AROUND = """\
{user}
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off; default_type application/octet-stream;
    types {{ text/html html; text/css css; application/javascript js; application/json json; image/svg+xml svg; }}
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/depotgrid.conf;
}}
"""


@dataclass(frozen=True)
class _Both:
    """The same pages and APIs behind nginx and behind `up`'s front."""

    nginx: httpx2.AsyncClient
    up: httpx2.AsyncClient


def _configured(folder: Path, port: int, read_port: int, command_port: int) -> Path:
    """nginx.conf with the addresses of this test; every replacement has to find something."""
    text = _CONF
    for stands, instead in (
        ("read-api:8080", f"127.0.0.1:{read_port}"),
        ("command-api:8080", f"127.0.0.1:{command_port}"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("root /srv/depotgrid", f"root {folder}/site"),
        ("include /srv/depotgrid", f"include {folder}/site"),
    ):
        assert text.count(stands) == 1, stands
        text = text.replace(stands, instead)
    (folder / "depotgrid.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder, user=user))
    return folder / "nginx.conf"


def _built(folder: Path) -> Path:
    """Pages as a build leaves them."""
    built = folder / "dist"
    (built / "assets").mkdir(parents=True)
    (built / ".vite").mkdir()
    (built / "index.html").write_text("<!doctype html><title>Depotgrid</title>" + " " * 900)
    (built / "assets" / "index-abc123.js").write_text("const one = 1;" * 100)
    (built / "assets" / "index-abc123.css").write_text("main { margin: 0 }\n" * 100)
    (built / "icon.svg").write_text("<svg/>")
    (built / ".vite" / "manifest.json").write_text("{}")
    return built


@contextlib.contextmanager
def _nginx(conf: Path) -> Generator[None]:
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/opt/homebrew/bin")
    assert program is not None, "there is no nginx; deploy/dev/setup test installs it"
    with (conf.parent / "log").open("wb") as log:
        process = subprocess.Popen([program, "-p", str(conf.parent), "-c", str(conf)], stderr=log)
    try:
        yield
        said = (conf.parent / "log").read_text()
        assert process.poll() is None, said
    finally:
        process.terminate()
        process.wait(60)


@contextlib.asynccontextmanager
async def _behind_both(folder: Path, built: Path, read_port: int, command_port: int) -> AsyncGenerator[_Both]:
    write_pages(built, folder / "site", msgspec.json.encode(_SIGN_IN), _ORIGINS)
    pages = Pages(built, _SIGN_IN)
    pages.allow(_ORIGINS)
    port = free_port()
    conf = _configured(folder, port, read_port, command_port)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_nginx(conf))
        client = await stack.enter_async_context(open_client())
        app = front_app(client, f"http://127.0.0.1:{read_port}", f"http://127.0.0.1:{command_port}", pages)
        up_port = await stack.enter_async_context(serve(app, "127.0.0.1", 0))
        nginx, up = [
            await stack.enter_async_context(httpx2.AsyncClient(base_url=f"http://127.0.0.1:{one}", timeout=30, trust_env=False))
            for one in (port, up_port)
        ]

        async def answers() -> bool:
            try:
                return (await nginx.get("/")).status_code == 200
            except httpx2.HTTPError:
                return False

        await until(answers, "nginx answers", timeout_s=30)
        yield _Both(nginx, up)


def _echo(name: str) -> Starlette:
    async def told(request: Request) -> JSONResponse:
        body = await request.body()
        headers = {"ETag": '"3"', "X-Told": name}
        path = request.scope["raw_path"].decode()
        return JSONResponse(
            {"api": name, "path": path, "query": request.url.query, "length": len(body), "padding": "x" * 2000}, headers=headers
        )

    return Starlette(routes=[Route("/{path:path}", told, methods=_ALL)])


@pytest.fixture
async def both(service_folder: Path) -> AsyncIterator[_Both]:
    """Both before two APIs that say what reached them."""
    async with contextlib.AsyncExitStack() as stack:
        read_port, command_port = [
            await stack.enter_async_context(serve(_echo(name), "127.0.0.1", 0)) for name in ("read", "command")
        ]
        yield await stack.enter_async_context(_behind_both(service_folder, _built(service_folder), read_port, command_port))


_COMPARED = (
    "content-type",
    "cache-control",
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-opener-policy",
    "vary",
    "content-encoding",
)


def _headers(answered: httpx2.Response) -> dict[str, str | None]:
    told = {name: answered.headers.get(name) for name in _COMPARED}
    # Both are right for a script (RFC 9239), and machines differ in which they know.
    told["content-type"] = (told["content-type"] or "").replace("text/javascript", "application/javascript")
    told["vary"] = (told["vary"] or "").lower()
    return told


async def test_pages_are_served_as_up_serves_them(both: _Both) -> None:
    paths = ["/", "/index.html", "/depot/depot-1", "/depot/north.side/devices", "/depot/.hidden", "/apiary", "/web-config.json"]
    for path in [*paths, "/assets/index-abc123.js", "/assets/index-abc123.css", "/icon.svg"]:
        for encoding in ("gzip", "identity"):
            asked = {"Accept-Encoding": encoding}
            ours, theirs = await both.nginx.get(path, headers=asked), await both.up.get(path, headers=asked)
            if not path.startswith("/assets/"):
                # nginx compresses small files too; what is compressed is the same text.
                assert ours.text == theirs.text, path
            expected = _headers(theirs)
            if len(theirs.content) < 600:
                expected |= {name: _headers(ours)[name] for name in ("vary", "content-encoding")}
            assert (ours.status_code, _headers(ours)) == (200, expected), path
    policy = (await both.nginx.get("/")).headers["content-security-policy"]
    assert "connect-src 'self' https://id.example https://login.example;" in policy


async def test_a_part_of_an_older_build_is_gone_and_not_kept(both: _Both) -> None:
    for path in ("/assets/index-000000.js", "/assets/"):
        ours, theirs = await both.nginx.get(path), await both.up.get(path)
        assert (ours.status_code, theirs.status_code) == (404, 404), path
        for name in ("cache-control", "content-security-policy", "x-content-type-options"):
            assert ours.headers.get(name) == theirs.headers.get(name), (path, name)


async def test_an_unchanged_page_is_not_sent_again(both: _Both) -> None:
    first = await both.nginx.get("/")
    again = await both.nginx.get("/depot/depot-1", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/.vite/manifest.json", "/metrics", "/auth/dev", "/auth/dev/token"])
async def test_what_is_not_for_everyone_is_not_there(both: _Both, path: str) -> None:
    answered = await both.nginx.get(path)
    assert (answered.status_code, "api" in answered.text) == (404, False)


def _operations(document: str) -> list[tuple[str, str]]:
    paths: dict[str, dict[str, Any]] = json.loads((_ROOT / "contracts" / document).read_text(encoding="utf-8"))["paths"]
    return [(method.upper(), path) for path, operations in paths.items() for method in operations]


@pytest.mark.parametrize(("document", "api"), [("openapi.read.json", "read"), ("openapi.command.json", "command")])
async def test_every_operation_that_is_described_reaches_its_api(both: _Both, document: str, api: str) -> None:
    operations = _operations(document)
    assert len(operations) > 25
    for method, template in operations:
        path = re.sub(r"\{[^}]+\}", ".a%2Fb:1", template)
        ours, theirs = await both.nginx.request(method, path), await both.up.request(method, path)
        told = (ours.json()["api"], ours.json()["path"], theirs.json()["api"], theirs.json()["path"])
        assert told == (api, path, api, path), (method, path)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/api", "/api/depot?x=%2B1&x=2"])
async def test_what_else_is_of_the_apis_reaches_the_read_api(both: _Both, path: str) -> None:
    ours, theirs = await both.nginx.get(path), await both.up.get(path)
    assert ours.json() == theirs.json()
    assert ours.json()["api"] == "read"


async def test_an_answer_of_an_api_is_passed_on_as_it_is(both: _Both) -> None:
    ours = await both.nginx.patch("/api/depot/d", content=b"x" * 3_000_000, headers={"Accept-Encoding": "gzip"})
    assert ours.json()["length"] == 3_000_000
    assert (ours.headers["etag"], ours.headers["x-told"], ours.headers.get("content-encoding")) == ('"3"', "command", None)
    assert "content-security-policy" not in ours.headers


async def test_a_site_file_of_the_largest_size_reaches_the_api(both: _Both) -> None:
    assert (await both.nginx.put("/api/depot/d/site", content=b"x" * (16 * 1024 * 1024 + 1))).status_code == 200


@pytest.mark.parametrize(("asked", "instance"), [("/api/circuit/a%22b?x=1", "/api/circuit/a%22b"), ('/api/"x"', "/api/")])
async def test_an_api_that_is_away_is_told_in_the_words_of_up(service_folder: Path, asked: str, instance: str) -> None:
    async with _behind_both(service_folder, _built(service_folder), 9, 9) as both:
        # A client of ours would not send a quotation mark as it is.
        port = both.nginx.base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {asked} HTTP/1.1\r\nHost: depotgrid.example\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        theirs = await both.up.get("/api/depot")
    assert head.startswith("HTTP/1.1 503")
    assert "retry-after: 1" in head.lower()
    assert "content-type: application/problem+json" in head.lower()
    assert json.loads(body) == {**theirs.json(), "instance": instance}


def _settings(database_url: str) -> Settings:
    settings: Settings = Settings.model_validate({"database_url": database_url, "auth": "off", "http_port": free_port()})
    return settings


async def test_a_depot_is_made_shown_and_followed_through_it(service_folder: Path, database_url: str) -> None:
    read, command = _settings(database_url), _settings(database_url)
    stop = asyncio.Event()
    running = [asyncio.create_task(serve_read_api(read, stop)), asyncio.create_task(serve_command_api(command, stop))]
    try:
        async with _behind_both(service_folder, _built(service_folder), read.http_port, command.http_port) as both:
            await _follow(both.nginx)
    finally:
        stop.set()
        await asyncio.gather(*running)


async def _follow(nginx: httpx2.AsyncClient) -> None:
    async def ready() -> bool:
        return (await nginx.get("/readyz")).status_code == 200

    await until(ready, "the read API is ready", timeout_s=60)
    site = yaml.safe_load((_ROOT / "deploy/examples/depot-1.yaml").read_text(encoding="utf-8"))

    async def is_made() -> bool:
        # The command API may come later than the read API.
        answered = await nginx.put("/api/depot/depot-1/site", json=site)
        assert answered.status_code in (200, 503), answered.text
        return answered.status_code == 200

    await until(is_made, "the depot is made", timeout_s=60)
    card = await nginx.get("/api/depot/depot-1/microgrid/card")
    assert (card.status_code, card.json()["depot_id"]) == (200, "depot-1")
    packet = {
        "schema_version": "1.0",
        "packet_id": "p-1",
        "gateway_id": "gw-1",
        "device_id": "ctrl-1",
        "sent_at": datetime.now(UTC).isoformat(),
        "measurands": [{"key": "PEAK_SHAVING", "value": True}],
    }
    address = f"/api/microgrid/{card.json()['microgrid_id']}/stream"
    async with asyncio.timeout(60), nginx.stream("GET", address) as streamed:
        assert streamed.headers["content-type"].startswith("text/event-stream")
        lines = streamed.aiter_lines()
        assert await anext(lines) == "event: card"
        (outcome,) = (await nginx.post("/api/packet", json=packet)).json()["outcomes"]
        assert outcome["measurand"] == "PEAK_SHAVING"
        async for line in lines:
            if line == "event: event":
                break
