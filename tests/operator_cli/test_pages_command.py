"""`depotgrid pages`: the pages and how one signs in, as files for a web server, brought from one build to the next."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from operator_cli.main import run
from operator_cli.pages_command import sign_in_conf, write_pages


def _build(folder: Path, name: str) -> Path:
    (folder / "assets").mkdir(parents=True)
    (folder / ".vite").mkdir()
    (folder / "index.html").write_text(name)
    (folder / "assets" / f"{name}.js").write_text(name)
    (folder / "assets" / "same.css").write_text("same")
    (folder / ".vite" / "manifest.json").write_text("{}")
    return folder


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_newer_build_replaces_an_older_one(tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_pages(_build(tmp_path / "1", "old"), site, b"{}", ())
    write_pages(_build(tmp_path / "2", "new"), site, b'{"auth":"oidc"}', ("https://id.example",))
    assert _files(site) == [
        "pages/assets/new.js",
        "pages/assets/same.css",
        "pages/index.html",
        "pages/web-config.json",
        "sign-in.conf",
    ]
    assert (site / "pages" / "index.html").read_text() == "new"
    assert (site / "pages" / "web-config.json").read_text() == '{"auth":"oidc"}'


@pytest.mark.parametrize(
    ("origins", "text"), [((), ""), (("https://id.example", "https://b.example:1"), " https://id.example https://b.example:1")]
)
def test_nginx_is_told_where_pages_connect_to(origins: tuple[str, ...], text: str) -> None:
    assert sign_in_conf(origins).splitlines()[-1] == f'set $sign_in_origins "{text}";'


class _Issuer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        issuer = f"http://{self.headers['Host']}"
        body = json.dumps({"issuer": issuer, "token_endpoint": "https://login.example/token"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Issuer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def in_empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPOTGRID_WEB_DIR", str(_build(tmp_path / "dist", "built")))
    return monkeypatch


def test_the_issuer_is_asked_where_its_tokens_come_from(
    issuer: str, in_empty_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_empty_environment.setenv("DEPOTGRID_OIDC_ISSUER", issuer)
    in_empty_environment.setenv("DEPOTGRID_OIDC_CLIENT_ID", "depotgrid-web")
    assert run(["pages", str(tmp_path / "site")]) == 0
    assert f'" {issuer} https://login.example"' in (tmp_path / "site" / "sign-in.conf").read_text()
    told = json.loads((tmp_path / "site" / "pages" / "web-config.json").read_text())
    assert told == {"auth": "oidc", "issuer": issuer, "client_id": "depotgrid-web", "scope": "openid"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "DEPOTGRID_OIDC_ISSUER: is not set"),
        ({"OIDC_ISSUER": "http://127.0.0.1:9"}, "DEPOTGRID_OIDC_CLIENT_ID: is not set"),
        ({"OIDC_ISSUER": "http://127.0.0.1:9", "OIDC_CLIENT_ID": "c"}, "nobody can sign in at http://127.0.0.1:9 now"),
        ({"AUTH": "off", "WEB_DIR": "/nowhere"}, "the web pages are not built: /nowhere has none"),
        ({"AUTH": "off", "PAGES": "/proc/nothing"}, "choose a folder that can be written"),
    ],
)
def test_what_is_missing_is_one_line_and_nothing_is_written(
    in_empty_environment: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, str],
    said: str,
) -> None:
    folder = changed.pop("PAGES", str(tmp_path / "site"))
    for name, value in changed.items():
        in_empty_environment.setenv(f"DEPOTGRID_{name}", value)
    assert run(["pages", folder]) == 1
    complained = capsys.readouterr().err
    assert complained.count("\n") == 1
    assert said in complained
    assert not (tmp_path / "site").exists()
