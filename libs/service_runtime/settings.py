"""Every setting of every process, read from the environment and `.env`, checked before anything starts.

A setting that is wrong becomes one line that names its variable, what is wrong and the cure; nothing is guessed. Refused
besides the unreadable: what would lose packets (a QoS other than 1, a clean session, an empty client id, a session that expires
within the hour), and access without OIDC on an address that others can reach. What a process cannot do without, it names as a
`Need`. A variable with our prefix that is nearly the name of a setting is taken for a slip of the pen; other unknown ones are
left to whoever they belong to.

Passwords stand inside URLs, and a token is one as a whole. They never appear in faults, tables or `repr`; only the attribute itself
holds them.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "DEPOTGRID_"
_SECRET: dict[str, JsonValue] = {"secret": True}
_LEAST_SESSION_EXPIRY_S = 3600


class Need(Enum):
    """Something that a process cannot start without."""

    DATABASE = "database"
    MQTT = "mqtt"
    KAFKA = "kafka"
    PACKET_SOURCE = "packet source"  # MQTT, Kafka or both
    BROKER = "broker"  # MQTT, Kafka or both, to publish to
    ACCESS = "access"  # who may do what can be decided


@dataclass(frozen=True)
class SettingsFault:
    """One wrong setting: the environment variable, what is wrong with it, and what to do. Free of secrets."""

    variable: str
    problem: str
    cure: str

    def line(self) -> str:
        """The fault as the one line that a person reads."""
        return f"{self.variable}: {self.problem}; {self.cure}"


@dataclass(frozen=True)
class SettingRow:
    """One setting as `depotgrid config` shows it. `value` is None when unset and has its password hidden."""

    name: str
    value: str | None
    source: str
    meaning: str


def _fault(problem: str, cure: str) -> PydanticCustomError:
    return PydanticCustomError("setting", "{problem}; {cure}", {"problem": problem, "cure": cure})


def _unset_when_empty(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _upper_case(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _split(value: str, schemes: Collection[str], example: str) -> SplitResult:
    """The parts of a URL of one of the schemes; its faults never quote it, for it may hold a password."""
    cure = f"give {example}"
    escape = "write a special character of the password percent-encoded: / as %2F, # as %23, @ as %40, : as %3A"
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise _fault("is not an address that can be read", f"{cure}; {escape}") from None
    if parts.scheme not in schemes:
        raise _fault(f"does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}", cure)
    if parts.fragment:
        raise _fault("has a '#' that is not part of an address", escape)
    return parts


def _database_address(value: str) -> str:
    example = "postgresql://user:password@host:5432/depotgrid"
    parts = _split(value, ("postgresql", "postgres"), example)
    if not parts.path.strip("/"):
        raise _fault("names no database", f"give {example}")
    if not parts.hostname and "host=" not in parts.query:
        raise _fault("names no host", f"give {example}")
    return value


def _mqtt_address(value: str) -> str:
    example = "mqtt://user:password@host:1883 (mqtts:// for TLS)"
    parts = _split(value, ("mqtt", "mqtts"), example)
    if not parts.hostname:
        raise _fault("names no host", f"give {example}")
    if parts.path.strip("/") or parts.query:
        raise _fault("has something after the port", f"give {example}")
    return value


def _kafka_servers(value: str) -> str:
    for server in value.split(","):
        host, separator, port = server.strip().rpartition(":")
        if not (separator and host and port.isdecimal() and 0 < int(port) < 65_536):
            raise _fault(f"{server.strip()!r} is not host:port", "give host:9092, several separated by commas")
    return value


def _issuer(value: str) -> str:
    parts = _split(value, ("https", "http"), "https://issuer.example/realm")
    if not parts.hostname:
        raise _fault("names no host", "give https://issuer.example/realm")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise _fault("is not https, so that anyone on the way could issue tokens", "give the https address")
    return value


def _qos_that_loses_nothing(value: int) -> int:
    if value != 1:
        raise _fault(f"{value} {'would lose packets' if value == 0 else 'is not supported'}", "set it to 1 or leave it out")
    return value


def _lasting_session(value: bool) -> bool:
    if value:
        raise _fault(
            "a clean session would lose every packet that arrives while the worker is away", "set it to false or leave it out"
        )
    return value


def _named(value: str) -> str:
    if not value.strip():
        raise _fault("an empty client id has no session to come back to and would lose packets", "name one, or leave it out")
    return value


def _lasting_expiry(value: int) -> int:
    if value < _LEAST_SESSION_EXPIRY_S:
        raise _fault(
            f"{value} s would lose the packets of a longer outage", f"set it to at least {_LEAST_SESSION_EXPIRY_S}, or leave it out"
        )
    return value


_Unsettable = BeforeValidator(_unset_when_empty)
_DatabaseUrl = Annotated[str, AfterValidator(_database_address)]
_MqttUrl = Annotated[str, AfterValidator(_mqtt_address)]
_KafkaServers = Annotated[str, AfterValidator(_kafka_servers)]
_IssuerUrl = Annotated[str, AfterValidator(_issuer)]


class Settings(BaseSettings):
    """All settings, checked. Built by `load_settings` in a main program and handed on in parts; read nowhere else."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    database_url: Annotated[_DatabaseUrl | None, _Unsettable] = Field(
        None, repr=False, json_schema_extra=_SECRET, description="PostgreSQL: `postgresql://user:password@host:5432/database`"
    )
    api_url: Annotated[str | None, _Unsettable] = Field(
        None, description="where commands find the HTTP API, `http://127.0.0.1:8080`"
    )
    api_token: Annotated[str | None, _Unsettable] = Field(
        None, repr=False, json_schema_extra=_SECRET, description="access token that commands send to the HTTP API"
    )

    mqtt_url: Annotated[_MqttUrl | None, _Unsettable] = Field(
        None,
        repr=False,
        json_schema_extra=_SECRET,
        description="MQTT broker: `mqtt://user:password@host:1883`, or `mqtts://` for TLS",
    )
    mqtt_client_id: Annotated[str, AfterValidator(_named)] = Field(
        "depotgrid-ingest", description="names the session at the broker; one worker at a time holds it, the others stand by"
    )
    mqtt_session_expiry_s: Annotated[int, AfterValidator(_lasting_expiry)] = Field(
        86_400, le=0xFFFF_FFFF, description="how long the broker keeps packets for a worker that is away; at least 3600 s"
    )
    mqtt_qos: Annotated[int, AfterValidator(_qos_that_loses_nothing)] = Field(1, description="only 1: acknowledged after commit")
    mqtt_clean_session: Annotated[bool, AfterValidator(_lasting_session)] = Field(
        default=False, description="only false: a clean session forgets what waits"
    )

    kafka_bootstrap_servers: Annotated[_KafkaServers | None, _Unsettable] = Field(
        None, description="Kafka brokers: `host:9092`, several separated by commas"
    )
    kafka_group_id: str = Field("depotgrid-ingest", min_length=1, description="the consumer group that the workers share")

    auth: Literal["oidc", "dev", "off"] = Field(
        "oidc", description="who may do what: `oidc` tokens, `dev` (an issuer of our own) or `off`; the last two on loopback only"
    )
    oidc_issuer: Annotated[_IssuerUrl | None, _Unsettable] = Field(None, description="issuer of access tokens, for `auth` `oidc`")
    oidc_audience: Annotated[str | None, _Unsettable] = Field(
        None, description="audience or client id that tokens must carry; any of the issuer's when not set"
    )
    oidc_client_id: Annotated[str | None, _Unsettable] = Field(
        None, description="client id with which the web pages sign people in at the issuer; a public client with PKCE"
    )
    oidc_roles_claim: str = Field("roles", min_length=1, description="claim that lists a person's roles")
    oidc_depots_claim: str = Field("depots", min_length=1, description="claim that lists the depots a person may see")
    dev_key_file: Path = Field(
        Path(".depotgrid/dev-issuer-key.json"), description="key of the local issuer, for `auth` `dev`; made when it is not there"
    )

    http_host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    http_port: int = Field(8080, ge=0, le=65_535, description="port to listen on; 0 for any free one")

    web_dir: Annotated[Path | None, _Unsettable] = Field(
        None, description="folder of the built web pages that `depotgrid up` serves; by default its own"
    )

    audit_keep_days: int = Field(400, ge=30, le=36_500, description="how long the command API keeps rows of audit, in days")
    max_clock_ahead_s: int = Field(300, ge=0, le=86_400, description="how far ahead of us a packet's clock may be")
    stale_after_default_s: int = Field(
        300, ge=1, le=86_400, description="age at which a status is stale where the binding does not say"
    )
    batch_max: int = Field(2_000, ge=1, le=2_000, description="most packets in one transaction")
    in_hand_max_packets: int = Field(50_000, ge=2_000, description="received but uncommitted packets at which reading stops")
    in_hand_max_bytes: int = Field(64 * 1024 * 1024, ge=1024 * 1024, description="their bytes at which reading stops")
    gateway_packets_per_s: float = Field(
        0, ge=0, le=1_000_000, allow_inf_nan=False, description="what a gateway may send on average; above it waits. 0: no limit"
    )
    gateway_burst_s: float = Field(
        60, ge=1, le=86_400, description="seconds' worth of its limit that a gateway may send at once after a silence"
    )
    gateway_waiting_max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024 * 1024,
        description="bytes of a gateway waiting in the MQTT broker above which its limit is not enforced; keep it well below the "
        "broker's `max_queued_bytes`",
    )
    dead_letter_cause_max_bytes: int = Field(
        64 * 1024 * 1024, ge=1024 * 1024, description="bytes of dead letters kept of one cause; beyond them the oldest lose theirs"
    )
    unacknowledged_age_limit_s: int = Field(
        30, ge=1, description="age of the oldest uncommitted packet at which a worker reports itself not ready"
    )

    outbox_keep_sent_s: int = Field(3_600, ge=0, description="how long the outbox keeps what every broker has confirmed")
    outbox_keep_unsent_s: int = Field(
        604_800, ge=3_600, description="how long the outbox waits for a relay, where none runs, or none for a broker that had one"
    )

    feature_flags_file: Annotated[Path | None, _Unsettable] = Field(
        None, description="YAML or JSON file of feature flags; built-in defaults when not set"
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper_case)] = Field(
        "INFO", description="least severity that is logged"
    )
    log_format: Literal["auto", "json", "pretty"] = Field("auto", description="`auto` is pretty on a terminal and JSON elsewhere")

    _sources: dict[str, str] = {}

    def knowing(self, sources: Mapping[str, str]) -> Settings:
        """These settings with the source of each value on record."""
        self._sources.update(sources)
        return self

    def source_of(self, name: str) -> str:
        """Where the value of a setting came from: `argument`, `environment`, `.env` or `default`."""
        return self._sources.get(name, "default")


def load_settings(
    *, need: Collection[Need] = (), env_file: Path | None = Path(".env"), **overrides: Any
) -> Settings | tuple[SettingsFault, ...]:
    """The settings, or every fault in them in the order of the table, at least one.

    `overrides` are values by setting name that win over the environment; None leaves a setting to it.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    in_file = dotenv_values(env_file) if env_file is not None and env_file.is_file() else {}
    slips = tuple(_slips([*os.environ, *in_file]))
    try:
        settings = Settings(_env_file=env_file, **given)  # pyright: ignore[reportCallIssue] - pydantic-settings' own argument
    except ValidationError as refused:
        return _in_table_order([*slips, *(_from_pydantic(error) for error in refused.errors(include_url=False))])
    faults = [*slips, *_faults_between(settings, need)]
    if faults:
        return _in_table_order(faults)
    return settings.knowing({name: _source(name, given, in_file) for name in Settings.model_fields})


def describe(settings: Settings) -> list[SettingRow]:
    """Every setting with its value, source and meaning, passwords hidden."""
    rows: list[SettingRow] = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        shown = None if value is None else str(value).lower() if isinstance(value, bool) else without_password(str(value))
        if name == "api_token" and shown is not None:
            shown = "***"
        rows.append(SettingRow(variable(name), shown, settings.source_of(name), field.description or ""))
    return rows


def settings_table() -> str:
    """All settings as a Markdown page."""
    lines = [
        "# Settings",
        "",
        "Environment variables, or lines of `.env` in the working folder; the environment wins. A wrong one stops the start with",
        "a line that names it. `depotgrid config` shows the values in force. Generated from `libs/service_runtime/settings.py` by",
        "`python -m service_runtime.settings`.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = (
            "" if field.default is None else f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
        )
        lines.append(f"| `{variable(name)}` | {default} | {field.description} |")
    return "\n".join([*lines, ""])


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def without_password(text: str) -> str:
    """The text with the password of every URL in it replaced by `***`."""
    return re.sub(r"(?<=[?&]password=)[^&\s]*", "***", re.sub(r"(?<=://)([^\s/?#:@]*):[^\s/]*@", r"\1:***@", text))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than `localhost` counts as reachable by others."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _faults_between(settings: Settings, need: Collection[Need]) -> list[SettingsFault]:
    faults: list[SettingsFault] = []

    def missing(name: str, problem: str, cure: str) -> None:
        faults.append(SettingsFault(variable(name), problem, cure))

    if Need.DATABASE in need and settings.database_url is None:
        missing("database_url", "is not set", "give postgresql://user:password@host:5432/depotgrid")
    if Need.MQTT in need and settings.mqtt_url is None:
        missing("mqtt_url", "is not set", "give mqtt://user:password@host:1883")
    if Need.KAFKA in need and settings.kafka_bootstrap_servers is None:
        missing("kafka_bootstrap_servers", "is not set", "give host:9092")
    if Need.PACKET_SOURCE in need and settings.mqtt_url is None and settings.kafka_bootstrap_servers is None:
        missing(
            "mqtt_url", f"neither it nor {variable('kafka_bootstrap_servers')} is set", "give the broker that packets come from"
        )
    if Need.BROKER in need and settings.mqtt_url is None and settings.kafka_bootstrap_servers is None:
        missing("mqtt_url", f"neither it nor {variable('kafka_bootstrap_servers')} is set", "give the broker that events go to")
    if Need.ACCESS in need and settings.auth == "oidc" and settings.oidc_issuer is None:
        missing(
            "oidc_issuer", "is not set, and without it no token can be checked", f"give it, or {variable('auth')}=off on loopback"
        )
    if settings.auth != "oidc" and not is_loopback(settings.http_host):
        cure = f"set it to oidc, or {variable('http_host')} to 127.0.0.1"
        missing("auth", f"{settings.auth} would let everyone in who can reach {settings.http_host}", cure)
    return faults


def _from_pydantic(error: ErrorDetails) -> SettingsFault:
    name = str(error["loc"][0])
    context: dict[str, Any] = error.get("ctx", {})
    if error["type"] == "setting":
        return SettingsFault(variable(name), context["problem"], context["cure"])
    field = Settings.model_fields[name]
    shown = "" if field.json_schema_extra else f"{str(error['input'])[:60]!r}: "
    wrong = error["msg"][0].lower() + error["msg"][1:]
    cure = "leave it out" if field.default is None else f"the default is {field.default}"
    return SettingsFault(variable(name), f"{shown}{wrong}", cure)


def _slips(variables: Collection[str]) -> list[SettingsFault]:
    known = [name.upper() for name in Settings.model_fields]
    found: list[SettingsFault] = []
    for given in sorted(set(variables)):
        name = given.removeprefix(PREFIX)
        if name == given or name.upper() in known:
            continue
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.85):
            found.append(SettingsFault(given, "is no setting", f"rename it to {PREFIX}{near[0]}, or remove it"))
    return found


def _in_table_order(faults: list[SettingsFault]) -> tuple[SettingsFault, ...]:
    order = {variable(name): number for number, name in enumerate(Settings.model_fields)}
    return tuple(sorted(faults, key=lambda fault: order.get(fault.variable, len(order))))


def _source(name: str, given: Mapping[str, object], in_file: Mapping[str, str | None]) -> str:
    if name in given:
        return "argument"
    if any(key.upper() == variable(name) for key in os.environ):
        return "environment"
    if any(key.upper() == variable(name) for key in in_file):
        return ".env"
    return "default"


if __name__ == "__main__":
    print(settings_table(), end="")  # noqa: T201 - the page is its output
