"""Packets of sources that have no broker: one, or a batch of at most 1,000; the answer tells what became of each action.

What is configured is brought up to date before packets are decided, so a device that was created a moment ago may speak.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from command_api.answers import done
from command_api.backing import Backing
from command_api.carry_out import Given, NoQuery, carry_out
from command_api.described import described
from event_store.database import Connection
from event_store.store import PostgresEventStore
from microgrid.directory import SiteDirectory
from sensor_packet.contract_files import read_contract
from sensor_packet.packet import MAX_PACKET_BYTES, ClaimedIdentity
from service_runtime.problem import FieldFault, Problem, problem_of_faults, problem_responses
from service_runtime.tracing import parse_traceparent
from site_operations.conduct import Answer
from site_operations.ingest import ActionOutcome, Ingest, PacketOutcome, PreparedPacket, RawPacket
from site_operations.post_packets import post_packets
from site_registry.change_feed import KEEP_CHANGES_S, ChangeFollower

SOURCE = "http"
MOST_PACKETS = 1_000
_BATCH_BYTES = MOST_PACKETS * (MAX_PACKET_BYTES + 1) + 1024
_ONE_OF_BATCH = {"description": "a sensor packet, see packet.schema.json; what is none gets a result that says so"}
_PACKET = msgspec.json.decode(read_contract("packet.schema.json"))


class OutcomeOfAction(BaseModel):
    """What one action of one measurand came to; `code` says why where it was not done, `event_id` which event it became."""

    measurand: str | None
    action: str | None = Field(description="null where no enabled action names the measurand, or the measurand was refused")
    outcome: str = Field(description="APPLIED, RECORDED, DUPLICATE, IGNORED, REMEDIATION or REJECTED")
    code: str | None = None
    event_id: str | None = None


class OutcomeOfPacket(BaseModel):
    """What a packet came to."""

    packet_id: str
    outcomes: list[OutcomeOfAction]


class OutcomeInBatch(BaseModel):
    """What a packet of a batch came to: its outcomes, or the `code` and `detail` of why the whole of it was refused."""

    packet_id: str | None
    outcomes: list[OutcomeOfAction] | None = None
    code: str | None = None
    detail: str | None = None


class OutcomeOfBatch(BaseModel):
    """What became of the packets, in their order."""

    results: list[OutcomeInBatch]


class PacketDesk:
    """Decides packets by what is configured now."""

    def __init__(self, backing: Backing, max_ahead_s: float) -> None:
        self._backing = backing
        self._directory = SiteDirectory()
        self._follower = ChangeFollower(self._directory)
        self._looking = asyncio.Lock()
        self._looked_at: float | None = None
        self._ingest = Ingest(PostgresEventStore(backing.pool), self._directory, backing.clock, max_ahead_s)

    async def take(self, connection: Connection, raws: Sequence[RawPacket]) -> list[tuple[PreparedPacket, PacketOutcome]]:
        """Decide and store packets in the transaction of a connection."""
        _, ingest = await self.ready(connection)
        prepared = [ingest.prepare(raw) for raw in raws]
        return list(zip(prepared, await post_packets(connection, ingest, prepared), strict=True))

    async def ready(self, connection: Connection) -> tuple[SiteDirectory, Ingest]:
        """Who is who now, and the use case that decides by it."""
        await self._catch_up(connection)
        return self._directory, self._ingest

    async def _catch_up(self, connection: Connection) -> None:
        async with self._looking:
            clock = asyncio.get_running_loop().time
            if self._looked_at is None or clock() - self._looked_at > KEEP_CHANGES_S / 2:
                await self._follower.load_all(connection)
            else:
                await self._follower.catch_up(connection)
            self._looked_at = clock()


def packet_routes(backing: Backing, desk: PacketDesk) -> APIRouter:
    """`POST /api/packet` and `/api/packet/batch`."""
    router = APIRouter(tags=["packet"])

    @router.post(
        "/api/packet",
        response_model=OutcomeOfPacket,
        responses=problem_responses(413, 422),
        openapi_extra=described({"type": "object", "description": "a sensor packet, see packet.schema.json"}, with_key=True),
    )
    async def post_packet(request: Request, _: Annotated[NoQuery, Query()]) -> Response:
        """Take one packet; a refused envelope is 422 with its code."""

        async def handler(given: Given) -> Answer:
            [(prepared, outcome)] = await desk.take(given.connection, [_raw(backing, request, given, given.body)])
            if outcome.code is not None:
                refusal = prepared.refusal
                detail = refusal.detail if refusal is not None else "the database refused its content"
                raise problem_of_faults([FieldFault(refusal.pointer if refusal is not None else "", outcome.code, detail)])
            return done(200, {"packet_id": _packet_id(prepared), "outcomes": _outcomes(outcome.actions)})

        return await carry_out(backing, request, handler, most_bytes=2 * MAX_PACKET_BYTES, keep_request=False)

    @router.post(
        "/api/packet/batch",
        response_model=OutcomeOfBatch,
        responses=problem_responses(413, 422),
        openapi_extra=described({"type": "array", "maxItems": MOST_PACKETS, "items": _ONE_OF_BATCH}, with_key=True),
    )
    async def post_batch(request: Request, _: Annotated[NoQuery, Query()]) -> Response:
        """Take at most 1,000 packets; each gets its own result, in order."""

        async def handler(given: Given) -> Answer:
            bodies = _bodies(given)
            raws = [_raw(backing, request, given, body) for body in bodies]
            results = [_result(prepared, outcome) for prepared, outcome in await desk.take(given.connection, raws)]
            return done(200, {"results": results})

        return await carry_out(backing, request, handler, most_bytes=_BATCH_BYTES, keep_request=False)

    return router


def _raw(backing: Backing, request: Request, given: Given, body: bytes) -> RawPacket:
    principal = given.principal
    if not principal.unchecked and principal.gateway_id is None:
        raise Problem(403, "FORBIDDEN", "the token names no gateway, so it can post no packets")
    claimed = ClaimedIdentity(None if principal.unchecked else principal.gateway_id, None)
    trace = parse_traceparent(request.headers.get("traceparent"))
    return RawPacket(
        body, SOURCE, request.url.path, claimed, backing.clock(), trace_id=trace.trace_id if trace is not None else None
    )


def _bodies(given: Given) -> list[bytes]:
    try:
        found = msgspec.json.decode(given.body, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
        is_json = isinstance(fault, msgspec.ValidationError)
        code, detail = ("INVALID_VALUE", "an array of packets is expected") if is_json else ("MALFORMED_JSON", str(fault))
        raise problem_of_faults([FieldFault("", code, f"the body: {detail}")]) from None
    if len(found) > MOST_PACKETS:
        raise problem_of_faults([FieldFault("", "INVALID_VALUE", f"{len(found)} packets; at most {MOST_PACKETS} are taken")])
    return [bytes(memoryview(raw)) for raw in found]


def _result(prepared: PreparedPacket, outcome: PacketOutcome) -> dict[str, object]:
    if outcome.code is None:
        return {"packet_id": _packet_id(prepared), "outcomes": _outcomes(outcome.actions)}
    detail = prepared.refusal.detail if prepared.refusal is not None else "the database refused its content"
    return {"packet_id": _packet_id(prepared), "code": outcome.code, "detail": detail}


def _outcomes(actions: Sequence[ActionOutcome]) -> list[dict[str, object]]:
    return [
        {
            "measurand": one.measurand,
            "action": one.action,
            "outcome": one.outcome,
            **({"code": one.code} if one.code is not None else {}),
            **({"event_id": one.event_id} if one.event_id is not None else {}),
        }
        for one in actions
    ]


class _PacketId(msgspec.Struct):
    packet_id: str


def _packet_id(prepared: PreparedPacket) -> str | None:
    if prepared.packet is not None:
        return prepared.packet.packet_id
    try:
        return msgspec.json.decode(prepared.raw.body, type=_PacketId).packet_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
