"""The web pages behind the one address: what is at a path, how long it may be kept, what it is allowed in a browser."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from operator_cli.front import front_app, open_client
from operator_cli.pages import Pages, SignInConfig
from service_runtime.health import serve

_OFF = SignInConfig("off", None, None)
_INDEX = "<!doctype html><title>Depotgrid</title>" + " " * 600
_SCRIPT = "const one = 1;" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / ".vite").mkdir()
    (tmp_path / "index.html").write_text(_INDEX)
    (tmp_path / "assets" / "index-abc123.js").write_text(_SCRIPT)
    (tmp_path / ".vite" / "manifest.json").write_text("{}")
    return tmp_path


async def _serving(pages: Pages) -> AsyncIterator[httpx2.AsyncClient]:
    async with open_client() as http:
        # Nothing listens there: whatever is passed on is a 503, and so is told from a page.
        app = front_app(http, "http://127.0.0.1:9", "http://127.0.0.1:9", pages)
        async with serve(app, "127.0.0.1", 0) as port, httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client


@pytest.fixture
async def site(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    async for client in _serving(Pages(folder, _OFF)):
        yield client


@pytest.mark.parametrize("path", ["/", "/index.html", "/depot/depot-1", "/depot/north.side/devices", "/dead-letters", "/apiary"])
async def test_every_address_of_a_page_gives_the_page(site: httpx2.AsyncClient, path: str) -> None:
    answered = await site.get(path)
    assert (answered.status_code, answered.text) == (200, _INDEX)
    assert answered.headers["content-type"] == "text/html; charset=utf-8"
    assert answered.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/depot"),
        ("GET", "/auth/dev"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("POST", "/"),
        ("DELETE", "/api/depot/d"),
    ],
)
async def test_what_is_of_the_apis_is_passed_on(site: httpx2.AsyncClient, method: str, path: str) -> None:
    answered = await site.request(method, path)
    assert (answered.status_code, answered.json()["code"]) == (503, "SERVICE_UNAVAILABLE")


async def test_what_is_named_by_its_content_is_kept_for_a_year(site: httpx2.AsyncClient) -> None:
    answered = await site.get("/assets/index-abc123.js")
    assert (answered.status_code, answered.text) == (200, _SCRIPT)
    assert answered.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answered.headers["content-type"].split(";")[0] in ("text/javascript", "application/javascript")


@pytest.mark.parametrize(
    "path", ["/assets/index-000000.js", "/assets/../.vite/manifest.json", "/assets/%2e%2e/.vite/manifest.json"]
)
async def test_a_part_that_is_not_there_is_no_page(site: httpx2.AsyncClient, path: str) -> None:
    answered = await site.get(path)
    assert answered.status_code == 404 or answered.text == _INDEX
    assert answered.text != "{}"


async def test_an_unchanged_page_is_not_sent_again(site: httpx2.AsyncClient) -> None:
    first = await site.get("/")
    again = await site.get("/depot/depot-1", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("accepted", "compressed"), [("gzip, br", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False)]
)
async def test_pages_are_compressed_for_who_takes_it(site: httpx2.AsyncClient, accepted: str, compressed: bool) -> None:
    async with site.stream("GET", "/", headers={"Accept-Encoding": accepted}) as answered:
        body = b"".join([part async for part in answered.aiter_raw()])
    assert answered.headers["vary"] == "accept-encoding"
    assert (answered.headers.get("content-encoding") == "gzip") is compressed
    assert (gzip.decompress(body) if compressed else body) == _INDEX.encode()


async def test_head_tells_the_length_and_sends_no_body(site: httpx2.AsyncClient) -> None:
    answered = await site.head("/", headers={"Accept-Encoding": "identity"})
    assert (answered.status_code, answered.headers["content-length"], answered.content) == (200, str(len(_INDEX)), b"")


async def test_a_page_may_run_scripts_and_styles_of_ours_alone(site: httpx2.AsyncClient) -> None:
    answered = await site.get("/")
    policy = dict(part.strip().split(" ", 1) for part in answered.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert (policy["script-src"], policy["style-src"], policy["connect-src"]) == ("'self'", "'self'", "'self'")
    assert policy["frame-ancestors"] == "'none'"
    assert answered.headers["x-content-type-options"] == "nosniff"


async def test_the_pages_are_told_how_one_signs_in_and_may_talk_to_that_issuer(folder: Path) -> None:
    async for client in _serving(Pages(folder, SignInConfig("oidc", "https://id.example/realm", "depotgrid-web"))):
        told = await client.get("/web-config.json")
        assert told.json() == {
            "auth": "oidc",
            "issuer": "https://id.example/realm",
            "client_id": "depotgrid-web",
            "scope": "openid",
        }
        assert told.headers["cache-control"] == "no-store"
        assert "connect-src 'self' https://id.example;" in told.headers["content-security-policy"]


async def test_an_issuer_whose_tokens_come_from_elsewhere_is_talked_to_there(folder: Path) -> None:
    pages = Pages(folder, SignInConfig("oidc", "https://id.example/realm", "depotgrid-web"))
    pages.allow(("https://id.example", "https://login.example:8443"))
    async for client in _serving(pages):
        policy = (await client.get("/")).headers["content-security-policy"]
        assert "connect-src 'self' https://id.example https://login.example:8443;" in policy


async def test_pages_that_are_not_built_say_what_builds_them(tmp_path: Path) -> None:
    async for client in _serving(Pages(tmp_path / "dist", _OFF)):
        answered = await client.get("/")
        assert (answered.status_code, "deploy/dev/setup demo" in answered.text) == (503, True)
