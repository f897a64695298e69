"""`depotgrid token` prints what services of the same data folder take, and commands send a token that they are given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from operator_cli.main import run
from service_runtime.access import ClaimNames, Principal, principal_from
from service_runtime.access_tokens import AccessTokens, Claims
from service_runtime.dev_key import is_dev_issuer, load_dev_key


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction] - by its name
    for name in ("API_URL", "API_TOKEN", "DEV_KEY_FILE", "AUTH"):
        monkeypatch.delenv(f"DEPOTGRID_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


class _Asked(BaseHTTPRequestHandler):
    authorization: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.authorization.append(self.headers["Authorization"])
        body = b'{"items": [], "next": null}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def api() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Asked) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        _Asked.authorization.clear()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


async def _principal(token: str, key_file: Path) -> Principal:
    checked = await AccessTokens(load_dev_key(key_file).find, is_dev_issuer, lambda: datetime.now(UTC)).check(token)
    assert isinstance(checked, Claims)
    return principal_from(checked, ClaimNames())


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["token", *arguments]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    return out.strip()


async def test_a_token_says_role_depots_and_gateway(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key_file = tmp_path / "state" / "dev-issuer-key.json"
    arguments = ("--role", "device", "--depot", "d-1", "--depot", "d-2", "--gateway", "gw-1", "--data-dir", str(tmp_path / "state"))
    principal = await _principal(_printed(capsys, *arguments), key_file)
    assert (principal.roles, principal.depots, principal.gateway_id) == ({"device"}, {"d-1", "d-2"}, "gw-1")


async def test_a_token_is_for_all_depots_and_an_hour_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key_file = tmp_path / ".depotgrid" / "dev-issuer-key.json"
    for arguments, ttl_s in (((), 3600), (("--ttl", "60"), 60)):
        principal = await _principal(_printed(capsys, "--role", "viewer", *arguments), key_file)
        assert (principal.depots, principal.gateway_id) == (None, None)
        assert principal.expires_at is not None
        left = principal.expires_at - datetime.now(UTC)
        assert timedelta(seconds=ttl_s - 30) < left <= timedelta(seconds=ttl_s)


async def test_the_key_is_the_one_that_the_setting_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPOTGRID_DEV_KEY_FILE", str(tmp_path / "elsewhere.json"))
    assert (await _principal(_printed(capsys, "--role", "admin"), tmp_path / "elsewhere.json")).has("admin")
    assert not (tmp_path / ".depotgrid").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--role"),
        (["--role", "emperor"], "--role"),
        (["--role", "device"], "--gateway"),
        (["--role", "device", "--gateway", "a b"], "--gateway"),
        (["--role", "viewer", "--depot", "*"], "--depot"),
        (["--role", "viewer", "--ttl", "0"], "--ttl"),
        (["--role", "viewer", "--ttl", "999999999"], "--ttl"),
    ],
)
def test_wrong_usage_ends_with_2_and_names_the_option(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert named in err


def test_services_elsewhere_are_told_apart(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPOTGRID_API_URL", "https://depotgrid.example")
    assert run(["token", "--role", "viewer"]) == 2
    assert "DEPOTGRID_API_URL" in capsys.readouterr().err


def test_a_broken_key_file_ends_with_1_and_names_the_cure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "dev-issuer-key.json").write_text("{}")
    assert run(["token", "--role", "viewer", "--data-dir", str(tmp_path)]) == 1
    assert "remove it" in capsys.readouterr().err


def test_commands_send_the_token_that_is_set_and_none_otherwise(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["dead-letter", "list", "--json", "--api-url", api]) == 0
    monkeypatch.setenv("DEPOTGRID_API_TOKEN", "aa.bb.cc")
    assert run(["dead-letter", "list", "--json", "--api-url", api]) == 0
    assert _Asked.authorization == [None, "Bearer aa.bb.cc"]


def test_what_is_no_token_is_never_sent_nor_shown(
    api: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEPOTGRID_API_TOKEN", "aa bb\r\nX: y")
    assert run(["dead-letter", "list", "--api-url", api]) == 2
    err = capsys.readouterr().err
    assert "DEPOTGRID_API_TOKEN" in err
    assert "aa bb" not in err
    assert _Asked.authorization == []


def test_the_list_of_settings_hides_the_token(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DEPOTGRID_API_TOKEN", "aa.bb.cc")
    assert run(["config"]) == 0
    assert "aa.bb.cc" not in capsys.readouterr().out
