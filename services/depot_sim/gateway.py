"""One gateway with a microgrid controller, a battery's meter and a solar plant's meter, made up second by second.

The site's state is a function of the seed and of the seconds since the start, so the same seed tells the same story: the battery
rests, discharges and charges in turn, peak shaving and DER switch every few seconds, the sun and the available capacity go up and
down. The state of charge follows from the power. The operational mode comes from the table that everyone reads
(`bess-operational-mode.json`).

Delivery is QoS 1, oldest packet first and one at a time, so that the order holds. A packet is done with when the broker confirms it
*and* somebody had subscribed: reason 0x10 says that nobody would ever see it. Until then it is kept and sent again, up to a bound,
past which the oldest are dropped.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import struct
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import structlog
from gmqtt import Client, Message
from gmqtt.mqtt.handler import MQTTConnectError

from sensor_packet.battery_mode import battery_mode
from sensor_packet.topics import mqtt_packet_topic

log = structlog.get_logger("depot_sim")

KEPT_PACKETS = 20_000
_RETRY_S = 0.5
_ANSWER_S = 5.0
_CONNECT_S = 5.0
_NAMESPACE = uuid.UUID("7d0c8a52-6f5c-5a39-9a55-1f2f0d6c3b11")
_BATTERY_KWH = 600.0
_CYCLE = (("IDLE", 8, 0.0), ("DISCHARGING", 20, -180.0), ("IDLE", 6, 0.0), ("CHARGING", 16, 150.0))
"""Dispatch state, seconds, power at the meter in kW (import positive)."""


@dataclass(frozen=True, slots=True)
class Devices:
    """Who speaks through the gateways; ids as configured in the site."""

    gateway_id: str = "demo-gw-1"
    controller_id: str = "demo-ctrl-1"
    battery_meter_id: str = "demo-bess-meter-1"
    solar_gateway_id: str = "demo-gw-2"
    solar_meter_id: str = "demo-solar-meter-1"


@dataclass(frozen=True, slots=True)
class SiteState:
    """The site in one second; powers in kW, import positive, state of charge in %."""

    peak_shaving: bool
    der: bool
    dispatch: str
    battery_kw: float
    soc_pct: float
    solar_kw: float
    available_kw: float


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A packet on its way: topic and bytes."""

    topic: str
    body: bytes


def site_states(seed: int) -> Callable[[], SiteState]:
    """Give a function that tells the site's state of the next second, beginning with second 0."""
    chance = random.Random(seed)
    switch_peak_shaving, switch_der = chance.randint(5, 8), chance.randint(9, 13)
    soc_pct = 55.0 + chance.random() * 20
    second = -1

    def step() -> SiteState:
        nonlocal second, soc_pct
        second += 1
        dispatch, power_kw = _phase(second)
        battery_kw = power_kw and round(power_kw + chance.uniform(-8, 8), 1)
        soc_pct = min(95.0, max(10.0, soc_pct + battery_kw / 3600 / _BATTERY_KWH * 100))
        return SiteState(
            peak_shaving=second // switch_peak_shaving % 2 == 0,
            der=second // switch_der % 2 == 1,
            dispatch=dispatch,
            battery_kw=battery_kw,
            soc_pct=round(soc_pct, 2),
            solar_kw=round(-45 - 30 * math.sin(second / 90) + chance.uniform(-2, 2), 1),
            available_kw=round(480 + 120 * math.sin(second / 40) + chance.uniform(-5, 5), 1),
        )

    return step


def _phase(second: int) -> tuple[str, float]:
    within = second % sum(seconds for _, seconds, _ in _CYCLE)
    ends = itertools.accumulate(seconds for _, seconds, _ in _CYCLE)
    return next((dispatch, power_kw) for (dispatch, _, power_kw), end in zip(_CYCLE, ends, strict=True) if within < end)


def packets(state: SiteState, devices: Devices, seed: int, sent_at: datetime) -> list[Outgoing]:
    """What the devices say of one second, in the order in which they say it."""
    mode = battery_mode("ON", state.dispatch, state.peak_shaving, state.der).mode
    controller: list[dict[str, Any]] = [
        {"key": "HEARTBEAT_STATUS", "value": True},
        {"key": "AVAILABLE_CHARGING_CAPACITY", "value": state.available_kw, "unit": "kW"},
        {"key": "FAIL_SAFE_CAPACITY", "value": 150.0, "unit": "kW"},
        {"key": "PEAK_SHAVING", "value": state.peak_shaving},
        {"key": "DER", "value": state.der},
        {"key": "LIMIT_DER_EXPORT", "value": state.der and state.soc_pct > 90},
        {"key": "DISPATCH_STATE", "value": state.dispatch},
        {"key": "SOC", "value": state.soc_pct, "unit": "%"},
        {"key": "DEVICE_POWER_STATE", "value": "ON"},
        {"key": "BESS_OPERATIONAL_MODE", "value": mode},
    ]
    battery: list[dict[str, Any]] = [
        {"key": "ACTIVE_POWER", "value": state.battery_kw, "unit": "kW"},
        {"key": "DEVICE_POWER_STATE", "value": "ON"},
        {"key": "SOC", "value": state.soc_pct, "unit": "%"},
    ]
    solar: list[dict[str, Any]] = [
        {"key": "ACTIVE_POWER", "value": state.solar_kw, "unit": "kW"},
        {"key": "DEVICE_POWER_STATE", "value": "ON"},
    ]
    said = (
        (devices.gateway_id, devices.controller_id, controller),
        (devices.gateway_id, devices.battery_meter_id, battery),
        (devices.solar_gateway_id, devices.solar_meter_id, solar),
    )
    return [_outgoing(gateway_id, device_id, measurands, seed, sent_at) for gateway_id, device_id, measurands in said]


class Gateway:
    """Says what is offered to it to a broker, as long as `run` runs."""

    def __init__(self, url: str, client_id: str) -> None:
        address = urlsplit(url)
        self._tls = address.scheme == "mqtts"
        self._host = address.hostname or "127.0.0.1"
        self._port = address.port or (8883 if self._tls else 1883)
        self._username = unquote(address.username) if address.username else None
        self._password = unquote(address.password) if address.password else None
        self._client_id = client_id
        self._waiting: deque[Outgoing] = deque(maxlen=KEPT_PACKETS)
        self._offered = asyncio.Event()
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._lost = asyncio.Event()
        self.confirmed = 0
        """Packets that the broker took for somebody."""

    @property
    def waiting(self) -> int:
        """Packets kept because nobody has taken them yet."""
        return len(self._waiting)

    def offer(self, packet: Outgoing) -> None:
        """Put a packet at the end of the queue."""
        self._waiting.append(packet)
        self._offered.set()

    async def run(self) -> None:
        """Connect, deliver, connect again; ends only by cancellation, and then disconnects."""
        told = False
        while True:
            client: Any = Client(self._client_id, clean_session=True, logger=_quiet)
            try:
                await self._connect(client)
                log.info("gateway connected", broker=f"{self._host}:{self._port}")
                told = False
                await self._deliver(client)
            except (OSError, TimeoutError, MQTTConnectError) as fault:
                if not told:
                    log.warning("gateway keeps its packets", reason=str(fault) or type(fault).__name__)
                told = True
            finally:
                self._lost.set()
                if client._connection is not None:
                    await client.disconnect()
            await asyncio.sleep(_RETRY_S)

    async def _connect(self, client: Any) -> None:
        # Reconnecting is ours, on a new client; the answers to publishes carry a reason that the library does not hand on.
        client.set_config({"reconnect_retries": -2})
        client.on_disconnect = self._on_disconnect
        client._package_handler._handle_puback_packet = self._on_puback
        self._client, self._answers = client, {}
        self._lost = asyncio.Event()
        if self._username is not None:
            client.set_auth_credentials(self._username, self._password)
        async with asyncio.timeout(_CONNECT_S):
            await client.connect(self._host, self._port, ssl=self._tls, keepalive=20)

    async def _deliver(self, client: Any) -> None:
        while True:
            while not self._waiting:
                self._offered.clear()
                await self._first_of(self._offered, self._lost)
                if self._lost.is_set():
                    raise ConnectionResetError("the connection to the broker was lost")
            packet = self._waiting[0]
            reason = await self._publish(client, packet)
            if reason == 0:
                self.confirmed += 1
                # It may have been dropped from a full queue meanwhile.
                if self._waiting and self._waiting[0] is packet:
                    self._waiting.popleft()
            else:
                log.debug("packet kept", reason_code=reason)
                await asyncio.sleep(_RETRY_S)

    async def _publish(self, client: Any, packet: Outgoing) -> int:
        if self._lost.is_set():
            raise ConnectionResetError("the connection to the broker was lost")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        mid, _ = client._connection.publish(Message(packet.topic, packet.body, qos=1))
        self._answers[mid] = answer
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await answer
        finally:
            self._answers.pop(mid, None)

    def _on_puback(self, _command: int, packet: bytes) -> None:
        (mid,) = struct.unpack("!H", packet[:2])
        self._client._package_handler.id_generator.free_id(mid)
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(packet[2] if len(packet) > 2 else 0)

    def _on_disconnect(self, _client: Any, _packet: Any, _fault: Any = None) -> None:
        self._lost.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("the connection to the broker was lost"))

    @staticmethod
    async def _first_of(*events: asyncio.Event) -> None:
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _outgoing(gateway_id: str, device_id: str, measurands: list[dict[str, Any]], seed: int, sent_at: datetime) -> Outgoing:
    at = sent_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    packet = {
        "schema_version": "1.0",
        "packet_id": str(uuid.uuid5(_NAMESPACE, f"{seed}/{device_id}/{at}")),
        "gateway_id": gateway_id,
        "device_id": device_id,
        "sent_at": at,
        "measurands": measurands,
    }
    return Outgoing(mqtt_packet_topic(gateway_id, device_id), msgspec.json.encode(packet))


_quiet = logging.getLogger("gmqtt.quiet")
_quiet.setLevel(logging.CRITICAL)
