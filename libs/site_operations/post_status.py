"""Take in a capability status that somebody states over HTTP, by the way that packets take.

A status is a packet of one measurand: its event reference is the packet's id, and it is sent when it is observed. It is decoded,
authorised, decided and stored by the code that does so for packets, so the same report means the same by either way, and is one
event if it comes by both. It differs in what it names itself, the capability and its scope (`microgrid.stated_status`), and in
that it is told instead of dead-lettered.

Who speaks: a gateway for its own devices, as with packets; or a person, who may do so for any device of the depot. A device of
another depot is `DEVICE_OF_OTHER_DEPOT` for those who may see that depot, and unknown to all others.

What waits for a person (`CAPABILITY_NOT_BOUND`, `MICROGRID_NOT_FOUND`) also becomes an open question, as with packets; so the
caller has to keep what was written in that case, although the status is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import msgspec

from event_store.database import Connection
from microgrid.directory import NotAuthorised, SiteDirectory
from microgrid.reporting import Refused, Reported
from microgrid.routing import REJECTED, REMEDIATION, DevicePlan
from microgrid.site_model import CAPABILITIES
from microgrid.stated_status import plan_stated_status
from sensor_packet.packet import MAX_PACKET_ID_CHARACTERS, MAX_TEXT_CHARACTERS, ClaimedIdentity
from sensor_packet.timestamps import parse_timestamp
from site_operations.ingest import ActionOutcome, Ingest, RawPacket
from site_operations.post_packets import NOT_STORABLE, post_packets
from site_operations.thing_faults import definitions, shape_faults
from site_registry.site_file import SiteFault

_STORABLE = "^[^\\u0000\\ud800-\\udfff]*$"

STATUS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["capability", "value", "observed_at", "source_event_ref", "device_id"],
    "properties": {
        "capability": {"enum": list(CAPABILITIES)},
        "value": {
            "type": ["boolean", "string", "number"],
            "maxLength": MAX_TEXT_CHARACTERS,
            "pattern": _STORABLE,
            "description": "true, false, or a mode of BESS_OPERATIONAL_MODE; text of at most 256 characters",
        },
        "observed_at": {
            "type": "string",
            "format": "date-time",
            "maxLength": 64,
            "description": "RFC 3339 with an offset; also counts as sent_at",
        },
        "source_event_ref": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_PACKET_ID_CHARACTERS,
            "pattern": _STORABLE,
            "description": f"the sender's name for this report, text of at most {MAX_PACKET_ID_CHARACTERS} characters",
        },
        "device_id": {"$ref": "#/$defs/identifier"},
        "node_id": {"$ref": "#/$defs/node_or_null"},
        "measurand": {
            **definitions()["measurand"],
            "type": ["string", "null"],
            "title": "what the value is a value of; the capability's name where it is null or left out",
        },
    },
}

# Where what a packet calls so stands in a status.
_PLACES = {
    "/packet_id": "/source_event_ref",
    "/sent_at": "/observed_at",
    "/device_id": "/device_id",
    "/gateway_id": "/device_id",
    "/measurands/0/observed_at": "/observed_at",
    "/measurands/0/key": "/measurand",
    "/measurands/0/value": "/value",
}


@dataclass(frozen=True, slots=True)
class StatedStatus:
    """A status whose shape holds; `value` is JSON, `observed_at` is RFC 3339 text."""

    capability: str
    node_id: str | None
    measurand: str
    value: bool | float | str
    observed_at: str
    source_event_ref: str
    device_id: str


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who states it: a gateway (`gateway_id`) for its devices, or with None a person; and whether they may see a depot."""

    gateway_id: str | None
    may_see: Callable[[str | None], bool]


@dataclass(frozen=True, slots=True)
class StatusTaken:
    """What came of a status that was taken; `operational_status` is `ON`, `OFF`, or None where the value says nothing of it."""

    action: ActionOutcome
    operational_status: str | None


@dataclass(frozen=True, slots=True)
class StatusRefused:
    """Why it was not: `outcome` is `REJECTED` or `REMEDIATION`, `pointer` leads into the status, `candidates` to the owner."""

    outcome: str
    code: str
    pointer: str
    detail: str
    candidates: tuple[str, ...] = ()


def read_status(body: object) -> StatedStatus | list[SiteFault]:
    """A status from its JSON, or all that is wrong with its shape."""
    faults = shape_faults(STATUS_SCHEMA, body)
    members = cast("Mapping[str, Any]", body if isinstance(body, dict) else {})
    observed_at = members.get("observed_at")
    if isinstance(observed_at, str) and parse_timestamp(observed_at) is None:
        faults = [fault for fault in faults if fault.pointer != "/observed_at"]
        faults.append(SiteFault("/observed_at", "INVALID_TIMESTAMP", "it is not an RFC 3339 time with an offset"))
    if faults:
        return faults
    return StatedStatus(
        capability=members["capability"],
        node_id=members.get("node_id"),
        measurand=members.get("measurand") or members["capability"],
        value=members["value"],
        observed_at=members["observed_at"],
        source_event_ref=members["source_event_ref"],
        device_id=members["device_id"],
    )


async def post_status(
    connection: Connection,
    ingest: Ingest,
    directory: SiteDirectory,
    depot_id: str,
    status: StatedStatus,
    speaker: Speaker,
    *,
    source: str,
    topic: str,
    received_at: datetime,
    trace_id: str | None = None,
) -> StatusTaken | StatusRefused:
    """Decide and store a status of a depot that is there, in the caller's transaction; raises what another try may mend."""
    gateway_id = _gateway(directory, depot_id, status, speaker)
    if isinstance(gateway_id, StatusRefused):
        return gateway_id
    site = directory.site(depot_id)
    if site is None:
        raise ValueError(f"{depot_id} is not known")
    if status.node_id is not None and site.microgrid and status.node_id not in {node.node_id for node in site.microgrid.nodes}:
        return StatusRefused(REJECTED, "UNKNOWN_NODE", "/node_id", f"the microgrid of depot {depot_id} has no such node")

    def planned(plan: DevicePlan) -> DevicePlan:
        return plan_stated_status(site, plan, status.measurand, status.capability, status.node_id)

    raw = RawPacket(
        _as_packet(status, gateway_id), source, topic, ClaimedIdentity(gateway_id, None), received_at, trace_id=trace_id
    )
    prepared = ingest.prepare(raw, planned)
    if prepared.refusal is not None:
        refusal = prepared.refusal
        return StatusRefused(REJECTED, refusal.code, _PLACES.get(refusal.pointer, "/device_id"), refusal.detail)
    [outcome] = await post_packets(connection, ingest, [prepared])
    if outcome.code is not None:
        return StatusRefused(REJECTED, NOT_STORABLE, "", "the database refused its content")
    [step] = prepared.steps
    if isinstance(step, Refused):
        return StatusRefused(step.outcome, step.code, _place(step), step.detail, step.candidates)
    if not isinstance(step, Reported):
        raise TypeError("a stated status is a report or a refusal")
    told: Any = step.event.payload.get("operational_status")
    return StatusTaken(outcome.actions[0], told)


def _gateway(directory: SiteDirectory, depot_id: str, status: StatedStatus, speaker: Speaker) -> str | StatusRefused:
    home = directory.depot_of(status.device_id)
    gateway_id = speaker.gateway_id
    if gateway_id is not None:
        allowed = directory.authorise(gateway_id, status.device_id)
        if isinstance(allowed, NotAuthorised):
            return StatusRefused(REJECTED, allowed.code, "/device_id", allowed.detail)
    if home is None or (gateway_id is None and not speaker.may_see(home)):
        return StatusRefused(REJECTED, "UNKNOWN_DEVICE", "/device_id", f"no device {status.device_id} is configured")
    if home != depot_id:
        detail = f"device {status.device_id} belongs to depot {home} and not to {depot_id}"
        return StatusRefused(REJECTED, "DEVICE_OF_OTHER_DEPOT", "/device_id", detail)
    site = directory.site(home)
    if site is None:
        raise ValueError(f"{home} is not known")
    return site.device_by_id[status.device_id].gateway_id


def _as_packet(status: StatedStatus, gateway_id: str) -> bytes:
    return msgspec.json.encode(
        {
            "schema_version": "1.0",
            "packet_id": status.source_event_ref,
            "gateway_id": gateway_id,
            "device_id": status.device_id,
            "sent_at": status.observed_at,
            "measurands": [{"key": status.measurand, "value": status.value}],
        }
    )


def _place(step: Refused) -> str:
    if step.outcome == REMEDIATION or step.code == "CAPABILITY_SOURCE_CONFLICT":
        return "/capability"
    return _PLACES.get(step.pointer, "")
