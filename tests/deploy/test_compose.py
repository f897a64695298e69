"""`deploy/compose.yaml` and `deploy/Dockerfile`, held to the code as far as that goes without a container engine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from operator_cli.main import run
from service_runtime.settings import PREFIX, Need, Settings, load_settings

_ROOT = Path(__file__).parents[2]
_DEPLOY = _ROOT / "deploy"
_COMPOSE: dict[str, Any] = yaml.safe_load((_DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
_SERVICES = cast("dict[str, dict[str, Any]]", _COMPOSE["services"])
_OURS = sorted(name for name, service in _SERVICES.items() if service["image"].startswith("depotgrid:"))
_THEIRS = sorted(set(_SERVICES) - set(_OURS))
_NGINX = (_DEPLOY / "nginx.conf").read_text(encoding="utf-8")
_DOCKERFILE = (_DEPLOY / "Dockerfile").read_text(encoding="utf-8")
_NEEDS = {
    "migrate": {Need.DATABASE},
    "ingest": {Need.DATABASE, Need.PACKET_SOURCE},
    "ingest-kafka": {Need.DATABASE, Need.KAFKA},
    "bridge": {Need.DATABASE, Need.MQTT, Need.KAFKA},
    "relay": {Need.DATABASE, Need.BROKER},
    "read-api": {Need.DATABASE, Need.ACCESS},
    "command-api": {Need.DATABASE, Need.ACCESS},
    "pages": {Need.ACCESS},
}
_FILLED_IN = {
    "POSTGRES_PASSWORD": "a1",
    "MQTT_PASSWORD": "b2",
    "MOSQUITTO_PASSWORDS": "./mosquitto.passwords",
    "DEPOTGRID_OIDC_ISSUER": "https://id.example/realm",
    "DEPOTGRID_OIDC_CLIENT_ID": "depotgrid-web",
}
# What a service of the Compose specification may say, of what is used here; a slip of the pen is in none of these.
_TOP = {"name", "services", "volumes"}
_KEYS = {
    *("image", "build", "read_only", "tmpfs", "cap_drop", "security_opt", "restart", "depends_on", "healthcheck", "profiles"),
    *("environment", "volumes", "ports", "command", "entrypoint", "shm_size", "stop_grace_period"),
}
_HEALTH = {"test", "interval", "timeout", "start_period", "retries"}
_VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def _texts(node: object) -> list[str]:
    if isinstance(node, dict):
        return [text for value in cast("dict[str, object]", node).values() for text in _texts(value)]
    if isinstance(node, list):
        return [text for value in cast("list[object]", node) for text in _texts(value)]
    return [str(node)]


def _filled(text: str) -> str:
    return _VARIABLE.sub(lambda found: _FILLED_IN.get(found[1]) or ((found[3] or "") if found[2] == ":-" else ""), text)


def _mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    parts = [_filled(one).split(":") for one in service.get("volumes", [])]
    return [(part[0], part[1]) for part in parts]


def test_nothing_is_said_that_compose_does_not_know() -> None:
    assert {key for key in _COMPOSE if not key.startswith("x-")} == _TOP
    for name, service in _SERVICES.items():
        assert set(service) <= _KEYS, name
        assert set(service.get("healthcheck", {})) <= _HEALTH, name
        assert service.get("restart", "no") in ("no", "on-failure", "unless-stopped"), name


def test_every_service_waits_for_services_that_its_profile_has_too() -> None:
    for name, service in _SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            awaited = _SERVICES[other]
            assert set(awaited.get("profiles", [])) <= set(service.get("profiles", [])), (name, other)
            if how["condition"] == "service_healthy":
                assert "healthcheck" in awaited, (name, other)
            if how["condition"] == "service_completed_successfully":
                assert awaited.get("restart", "no") != "unless-stopped", (name, other)


@pytest.mark.parametrize("name", _OURS)
def test_every_command_is_one_of_ours(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command: list[str] = _SERVICES[name]["command"]
    assert run([*command, "--help"]) == 0
    assert f"depotgrid {command[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("name", _OURS)
def test_every_process_starts_with_the_settings_that_it_is_given(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = _SERVICES[name]["environment"]
    assert {key.removeprefix(PREFIX).lower() for key in given} <= set(Settings.model_fields)
    monkeypatch.chdir(tmp_path)
    for key, value in given.items():
        monkeypatch.setenv(key, _filled(str(value)))
    settings = load_settings(need=_NEEDS[name])
    assert isinstance(settings, Settings), settings


def test_of_mqtt_and_kafka_each_process_is_given_what_it_is_there_for() -> None:
    takes = {name: {key for key in _SERVICES[name]["environment"] if "MQTT" in key or "KAFKA" in key} for name in _OURS}
    mqtt, kafka = "DEPOTGRID_MQTT_URL", "DEPOTGRID_KAFKA_BOOTSTRAP_SERVERS"
    assert {name: those for name, those in takes.items() if those} == {
        "ingest": {mqtt},
        "bridge": {mqtt, kafka},
        "ingest-kafka": {kafka},
        "relay": {mqtt},
    }


@pytest.mark.parametrize("name", sorted(_SERVICES))
def test_what_is_mounted_is_there(name: str) -> None:
    for source, target in _mounts(_SERVICES[name]):
        assert target.startswith("/"), target
        if source == "./mosquitto.passwords":
            continue  # a person makes it; the example says how
        if source.startswith("."):
            assert (_DEPLOY / source).is_file(), source
        else:
            assert source in _COMPOSE["volumes"], source


def test_nginx_finds_the_apis_and_the_pages_under_their_names() -> None:
    for host, port in re.findall(r"server ([\w-]+):(\d+);", _NGINX):
        assert _SERVICES[host]["environment"]["DEPOTGRID_HTTP_PORT"] == int(port)
        assert _SERVICES[host]["command"] == [host]
        assert _SERVICES["web"]["depends_on"][host]["condition"] == "service_healthy"
    (served,) = [target for source, target in _mounts(_SERVICES["web"]) if source == "pages"]
    assert f"root {served}/pages;" in _NGINX
    assert f"include {served}/sign-in.conf;" in _NGINX
    assert _SERVICES["pages"]["command"] == ["pages", served]
    assert ("pages", served) in _mounts(_SERVICES["pages"])
    assert _SERVICES["web"]["ports"] == ["127.0.0.1:${WEB_PORT:-8080}:80"]
    assert "listen 80;" in _NGINX


def test_mosquitto_finds_its_files_where_its_configuration_says() -> None:
    configuration = (_DEPLOY / "mosquitto.conf").read_text(encoding="utf-8")
    targets = [target for _, target in _mounts(_SERVICES["mosquitto"])]
    for name in ("password_file", "acl_file", "persistence_location"):
        (path,) = re.findall(rf"^{name} (\S+)$", configuration, re.MULTILINE)
        assert path.rstrip("/") in targets, name


@pytest.mark.parametrize("name", _THEIRS)
def test_images_of_others_are_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:\d+(\.\d+)+", _SERVICES[name]["image"])


def test_our_image_is_built_of_this_checkout_in_this_version() -> None:
    version = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for name in _OURS:
        assert _SERVICES[name]["image"] == f"depotgrid:{version}", name
        build = _SERVICES[name]["build"]
        assert (_DEPLOY / build["context"]).resolve() == _ROOT
        assert (_DEPLOY / build["context"] / build["dockerfile"]).is_file()


def test_no_secret_stands_in_the_file() -> None:
    for name, service in _SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key:
                assert _VARIABLE.fullmatch(str(value)), (name, key)
    for text in _texts(_COMPOSE):
        for password in re.findall(r"://[^/\s:@]+:(.*)@", text):
            found = _VARIABLE.fullmatch(password)
            assert found is not None, text
            assert found[2] == ":?", text


def test_the_example_names_everything_that_has_to_be_filled_in() -> None:
    lines = (_DEPLOY / "compose.env.example").read_text(encoding="utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    used = {found[1]: found[2] for text in _texts(_COMPOSE) for found in _VARIABLE.finditer(text)}
    assert set(example) == {*used, "COMPOSE_PROFILES"}
    assert {name for name, how in used.items() if how == ":?"} == set(_FILLED_IN)
    assert example["COMPOSE_PROFILES"] in {one for service in _SERVICES.values() for one in service.get("profiles", [])}
    ignored = (_ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {".env", "deploy/mosquitto.passwords"} <= set(ignored)


def test_what_the_image_is_made_of_is_there_and_is_let_in() -> None:
    let_in = {line[1:] for line in (_DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [path for sources in re.findall(r"^COPY (.+) \S+$", _DOCKERFILE, re.MULTILINE) for path in sources.split()]
    assert len(copied) > 8
    for path in copied:
        assert (_ROOT / path).exists(), path
        assert path.split("/")[0] in let_in, path


def test_the_image_has_a_python_that_ours_runs_on_and_nobody_as_its_user() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bases = set(re.findall(r"^FROM (\S+)", _DOCKERFILE, re.MULTILINE))
    assert bases == {f"python:{project['requires-python'].removeprefix('>=')}-slim-bookworm"}
    last = _DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\S+)$", last, re.MULTILINE) == ["depotgrid"]
    assert 'ENTRYPOINT ["depotgrid"]' in last
