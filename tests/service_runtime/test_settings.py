"""Settings: what is refused, how it is told, and that no secret shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_runtime.settings import (
    Need,
    Settings,
    SettingsFault,
    describe,
    is_loopback,
    load_settings,
    settings_table,
    without_password,
)

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - a fixture
    for name in list(os.environ):
        if name.startswith("DEPOTGRID_"):
            monkeypatch.delenv(name)


def _faults(monkeypatch: pytest.MonkeyPatch, *need: Need, **variables: str) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(f"DEPOTGRID_{name}", value)
    loaded = load_settings(need=need, env_file=None)
    return [fault.line() for fault in loaded] if isinstance(loaded, tuple) else []


def _loaded(env_file: Path | None = None, **overrides: Any) -> Settings:
    loaded = load_settings(env_file=env_file, **overrides)
    assert isinstance(loaded, Settings)
    return loaded


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("MQTT_QOS", "0", "DEPOTGRID_MQTT_QOS: 0 would lose packets; set it to 1 or leave it out"),
        ("MQTT_QOS", "2", "DEPOTGRID_MQTT_QOS: 2 is not supported; set it to 1 or leave it out"),
        (
            "MQTT_CLEAN_SESSION",
            "true",
            "DEPOTGRID_MQTT_CLEAN_SESSION: a clean session would lose every packet that arrives while the worker is away; "
            "set it to false or leave it out",
        ),
        (
            "MQTT_CLIENT_ID",
            "",
            "DEPOTGRID_MQTT_CLIENT_ID: an empty client id has no session to come back to and would lose packets; "
            "name one, or leave it out",
        ),
        (
            "MQTT_SESSION_EXPIRY_S",
            "3599",
            "DEPOTGRID_MQTT_SESSION_EXPIRY_S: 3599 s would lose the packets of a longer outage; "
            "set it to at least 3600, or leave it out",
        ),
    ],
)
def test_what_would_lose_packets_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str) -> None:
    assert _faults(monkeypatch, **{name: value}) == [line]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("DATABASE_URL", "mysql://u:hunter2@h/d", "does not begin with postgresql:// or postgres://"),
        ("DATABASE_URL", "postgresql://u:hunter2/x@h:5432/d", "is not an address that can be read"),
        ("DATABASE_URL", "postgresql://u:9#hunter2@h/d", "has a '#' that is not part of an address"),
        ("DATABASE_URL", "postgresql://u:hunter2@h:5432", "names no database"),
        ("DATABASE_URL", "postgresql:///d", "names no host"),
        ("DATABASE_URL", "hunter2", "does not begin with postgresql:// or postgres://"),
        ("MQTT_URL", "http://u:hunter2@h", "does not begin with mqtt:// or mqtts://"),
        ("MQTT_URL", "mqtt://u:hunter2@h:1883/topic", "has something after the port"),
        ("MQTT_URL", "mqtt://:1883", "names no host"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b", "'b' is not host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:0", "'a:0' is not host:port"),
        ("OIDC_ISSUER", "http://issuer.example", "is not https, so that anyone on the way could issue tokens"),
        ("HTTP_PORT", "abc", "'abc': input should be a valid integer, unable to parse string as an integer"),
        ("HTTP_PORT", "65536", "'65536': input should be less than or equal to 65535"),
        ("BATCH_MAX", "2001", "'2001': input should be less than or equal to 2000"),
        ("AUTH", "none", "'none': input should be 'oidc', 'dev' or 'off'"),
    ],
)
def test_a_wrong_value_is_named_with_its_cure_and_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    (line,) = _faults(monkeypatch, **{name: value})
    assert line.startswith(f"DEPOTGRID_{name}: {problem}; ")
    assert "hunter2" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("need", "variables", "named"),
    [
        (Need.DATABASE, {}, "DEPOTGRID_DATABASE_URL"),
        (Need.MQTT, {"KAFKA_BOOTSTRAP_SERVERS": "h:9092"}, "DEPOTGRID_MQTT_URL"),
        (Need.KAFKA, {"MQTT_URL": "mqtt://h"}, "DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS"),
        (Need.PACKET_SOURCE, {}, "DEPOTGRID_MQTT_URL"),
        (Need.PACKET_SOURCE, {"MQTT_URL": "mqtt://h"}, None),
        (Need.PACKET_SOURCE, {"KAFKA_BOOTSTRAP_SERVERS": "h:9092"}, None),
        (Need.ACCESS, {}, "DEPOTGRID_OIDC_ISSUER"),
        (Need.ACCESS, {"AUTH": "off"}, None),
        (Need.ACCESS, {"OIDC_ISSUER": "https://issuer.example"}, None),
        (Need.DATABASE, {"DATABASE_URL": " "}, "DEPOTGRID_DATABASE_URL"),
    ],
)
def test_what_a_process_cannot_do_without_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, need: Need, variables: dict[str, str], named: str | None
) -> None:
    assert [line.split(":")[0] for line in _faults(monkeypatch, need, **variables)] == ([named] if named else [])


@pytest.mark.parametrize(
    ("auth", "host", "allowed"),
    [
        ("off", "127.0.0.1", True),
        ("dev", "::1", True),
        ("off", "localhost", True),
        ("off", "0.0.0.0", False),
        ("dev", "192.168.1.4", False),
        ("off", "depot.example", False),
        ("oidc", "0.0.0.0", True),
    ],
)
def test_access_without_oidc_needs_loopback(monkeypatch: pytest.MonkeyPatch, auth: str, host: str, allowed: bool) -> None:
    assert [line.split(":")[0] for line in _faults(monkeypatch, AUTH=auth, HTTP_HOST=host)] == (
        [] if allowed else ["DEPOTGRID_AUTH"]
    )


def test_every_fault_is_told_in_the_order_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _faults(monkeypatch, LOG_LEVEL="loud", MQTT_QOS="0", DATABASE_URL="x")
    assert [line.split(":")[0] for line in lines] == ["DEPOTGRID_DATABASE_URL", "DEPOTGRID_MQTT_QOS", "DEPOTGRID_LOG_LEVEL"]


def test_a_slip_in_a_variable_name_is_told_but_a_stranger_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _faults(monkeypatch, DATABSE_URL="postgresql://h/d", SOMETHING_ELSE="1")
    assert lines == ["DEPOTGRID_DATABSE_URL: is no setting; rename it to DEPOTGRID_DATABASE_URL, or remove it"]


def test_an_argument_wins_over_the_environment_which_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("DEPOTGRID_HTTP_PORT=1\nDEPOTGRID_BATCH_MAX=10\nDEPOTGRID_LOG_LEVEL=debug\n")
    monkeypatch.setenv("DEPOTGRID_HTTP_PORT", "2")
    monkeypatch.setenv("DEPOTGRID_BATCH_MAX", "20")
    settings = _loaded(env_file, batch_max=30, http_host=None)
    assert (settings.batch_max, settings.source_of("batch_max")) == (30, "argument")
    assert (settings.http_port, settings.source_of("http_port")) == (2, "environment")
    assert (settings.log_level, settings.source_of("log_level")) == ("DEBUG", ".env")
    assert (settings.http_host, settings.source_of("http_host")) == ("127.0.0.1", "default")


def test_the_description_and_repr_hide_passwords_and_keep_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPOTGRID_DATABASE_URL", "postgresql://u:hunter2@h:5432/d?password=hunter3&sslmode=require")
    monkeypatch.setenv("DEPOTGRID_MQTT_URL", "mqtt://u:hunter2@h")
    settings = _loaded()
    rows = {row.name: row for row in describe(settings)}
    assert rows["DEPOTGRID_DATABASE_URL"].value == "postgresql://u:***@h:5432/d?password=***&sslmode=require"
    assert rows["DEPOTGRID_DATABASE_URL"].source == "environment"
    assert rows["DEPOTGRID_MQTT_URL"].value == "mqtt://u:***@h"
    assert "hunter" not in repr(settings) + str(rows)
    assert settings.database_url is not None
    assert "hunter2" in settings.database_url


def test_every_setting_says_what_it_means() -> None:
    assert [row.name for row in describe(_loaded()) if not row.meaning] == []


def test_the_settings_page_agrees_with_the_code() -> None:
    assert _PAGE.read_text(encoding="utf-8") == settings_table(), "run: python -m service_runtime.settings > docs/settings.md"


@given(
    user=st.text("abc%._-", max_size=8),
    password=st.text(st.characters(exclude_characters="/ ", exclude_categories=["Cs", "Cc", "Z"]), min_size=8),
)
def test_a_password_in_an_address_never_shows(user: str, password: str) -> None:
    assert without_password(f"at postgresql://{user}:{password}@host:5432/d!") == f"at postgresql://{user}:***@host:5432/d!"


def test_an_address_without_a_password_is_left_as_it_is() -> None:
    for address in ("mqtt://host:1883", "postgresql://user@host:5432/d", "see http://h:80/a@b"):
        assert without_password(address) == address


@pytest.mark.parametrize(("host", "loopback"), [("127.9.9.9", True), ("[::1]", True), ("::", False), ("localhost.example", False)])
def test_loopback_is_told_from_the_rest(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_fault_reads_as_one_line() -> None:
    assert SettingsFault("X", "is wrong", "mend it").line() == "X: is wrong; mend it"
