"""One run of a scenario: packets go out at their time, expectations are checked at theirs, and all of it is written down.

At each moment of the story, in this order: the connection suffers its storms, packets go out and are confirmed, expectations
are checked. An expectation is checked when everything sent before has left its trace, and again and again until it holds or its
time is up; then the run goes on, so that one run tells all that fails.

A machine that is too slow to keep the story's time makes it late. A run without a given epoch then moves what is left of the
story back by the delay, so that no packet claims to be older than it is; one with a given epoch keeps its times, since its
packets are to be the same.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Protocol, cast

from depot_sim.asked import holds
from depot_sim.configuration import PlayedDevice
from depot_sim.evidence import (
    ABORTED,
    CONFIRMED,
    EXPECTATIONS,
    FAILED,
    JUNIT,
    OUTCOMES,
    PACKETS,
    PASSED,
    SENT,
    STATE,
    EvidenceWriter,
    junit,
    line_of,
)
from depot_sim.pacing import Pacing
from depot_sim.product import Product, ProductFault
from depot_sim.scenario import Expectation, Scenario
from depot_sim.schedule import Plan, Planned, RunIdentity, packet_body, wire_time
from depot_sim.sending import Confirmed, Outgoing, UndeliveredError
from depot_sim.sight import Sight, lasting_card
from depot_sim.traces import Traces

_LATE_S = 0.5
_POLL_S = 0.05
_LAST_TRACES_S = 15.0
_TRACELESS_SHOWN = 5


class Sender(Protocol):
    """A way of sending; see `sending`."""

    async def send(self, packets: Sequence[Outgoing], confirmed: Confirmed) -> None: ...
    async def reconnect(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Play:
    """All that a run needs. `keeps_epoch` where the epoch was given, and no time may be moved."""

    scenario: Scenario
    plan: Plan
    identity: RunIdentity
    pacing: Pacing
    devices: Mapping[str, PlayedDevice]
    sender: Sender
    product: Product
    traces: Traces
    sight: Sight
    evidence: EvidenceWriter
    now: Callable[[], datetime]
    keeps_epoch: bool
    progress: Callable[[float, int], None]


class Player:
    """Plays a run once."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._held_s = 0.0
        self._bodies: dict[int, bytes] = {}
        self._numbers = {id(packet): number for number, packet in enumerate(play.plan.packets)}
        self._checks: list[dict[str, Any]] = []
        self._confirmed = 0
        self._last: Outgoing | None = None

    async def run(self) -> str:
        """Play to the end; gives the status, which the evidence has too."""
        aborted: str | None = None
        try:
            await self._tell_the_story()
            await self._read_back()
        except (UndeliveredError, ProductFault) as fault:
            aborted = str(fault)
        except asyncio.CancelledError:
            aborted = "it was stopped"
        status = ABORTED if aborted is not None else PASSED if all(check["held"] for check in self._checks) else FAILED
        play = self._play
        play.evidence.write(JUNIT, junit(play.scenario.name, self._checks, aborted))
        failed = [check["message"] for check in self._checks if not check["held"]]
        counts = {"packets": len(play.plan.packets), "confirmed": self._confirmed, "expectations": len(self._checks)}
        play.evidence.finish(status, **counts, held_s=round(self._held_s, 3), failed=failed, aborted=aborted)
        return status

    async def _tell_the_story(self) -> None:
        play = self._play
        packets = {at_s: list(group) for at_s, group in groupby(play.plan.packets, lambda packet: packet.at_s)}
        checks = {at_s: list(group) for at_s, group in groupby(play.scenario.expectations, lambda one: one.at_s)}
        storms = {storm.at_s: storm.times for storm in play.plan.storms}
        for at_s in sorted({*packets, *checks, *storms}):
            await self._wait_for(at_s)
            for _ in range(storms.get(at_s, 0)):
                # Each connection is really made: something has to go over it.
                await play.sender.reconnect()
                await self._send_again()
            await self._send(packets.get(at_s, []))
            if at_s == 0:
                await play.traces.settle(_LAST_TRACES_S)
                play.traces.count_from_here()
            for expectation in checks.get(at_s, ()):
                await self._check(expectation)
            play.progress(at_s, self._confirmed)

    async def _wait_for(self, at_s: float) -> None:
        play = self._play
        due = play.identity.epoch + timedelta(seconds=play.pacing.real_s(at_s) + self._held_s)
        ahead_s = (due - play.now()).total_seconds()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        elif ahead_s < -_LATE_S and not play.keeps_epoch:
            self._held_s -= ahead_s

    async def _send(self, packets: Sequence[Planned]) -> None:
        play = self._play
        going: list[Outgoing] = []
        for packet in packets:
            number = self._numbers[id(packet)]
            play.evidence.add(PACKETS, _as_evidence(number, packet))
            if packet.sent:
                going.append(self._outgoing(number, packet))
        if going:
            self._last = going[-1]
            await play.sender.send(going, self._on_confirmed)

    def _outgoing(self, number: int, packet: Planned) -> Outgoing:
        play = self._play
        body = self._bodies.get(packet.report)
        if body is None:
            body = self._bodies[packet.report] = packet_body(packet, play.identity, play.pacing, self._held_s)
        packet_id = play.identity.packet_id(packet.report)
        digest = hashlib.sha256(body).hexdigest()
        play.evidence.add(SENT, {"n": number, "packet_id": packet_id, "at": wire_time(play.now()), "sha256": digest})
        device = play.devices.get(packet.device_id)
        configured = {action.measurand for action in device.actions} if device is not None else set[str]()
        play.traces.sent(
            packet.report,
            packet_id,
            body,
            refusable=packet.spoilt is not None,
            traceable=packet.spoilt is None and any(one["key"] in configured for one in packet.measurands),
        )
        return Outgoing(number, packet.topic, packet.device_id, body)

    async def _send_again(self) -> None:
        """Send the packet before once more, which is nothing new to the product."""
        if self._last is not None:
            await self._play.sender.send([self._last], lambda _number, _code: None)

    def _on_confirmed(self, number: int, code: str | None) -> None:
        self._confirmed += 1
        self._play.evidence.add(CONFIRMED, {"n": number})
        if code is not None:
            self._play.traces.refused(self._play.plan.packets[number].report, code)

    async def _check(self, expectation: Expectation) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + expectation.within_s
        await self._play.traces.settle(expectation.within_s)
        while True:
            seen = await self._play.sight.look(expectation.asked)
            if holds(expectation.expected, seen) or clock() >= deadline:
                break
            await asyncio.sleep(_POLL_S)
            await self._play.traces.settle(0)
        self._note(expectation.at_s, expectation.asked.path, expectation.expected, seen)

    def _note(self, at_s: float, asked: str, expected: Any, seen: Any) -> None:
        held = holds(expected, seen)
        step = int(at_s / self._play.scenario.step_s + 1e-9)
        message = None if held else f"at {at_s:g}s (step {step}): {asked} expected {_shown(expected)}, seen {_shown(seen)}"
        check = {
            "at_s": at_s,
            "step": step,
            "asked": asked,
            "expected": expected,
            **({} if held and isinstance(expected, dict) else {"seen": seen}),
            "held": held,
            **({"message": message} if message else {}),
        }
        self._checks.append(check)
        self._play.evidence.add(EXPECTATIONS, check)

    async def _read_back(self) -> None:
        play = self._play
        await play.traces.settle(_LAST_TRACES_S)
        left = play.traces.without_trace()
        if left:
            shown = ", ".join(map(str, left[:_TRACELESS_SHOWN])) + (", …" if len(left) > _TRACELESS_SHOWN else "")
            self._note(play.scenario.duration_s, "confirmed reports without a trace", "none", shown)
        card = await play.product.card(play.identity.depot_id)
        play.evidence.write(STATE, line_of(lasting_card(card)) + "\n" if card is not None else "null\n")
        for outcome in play.traces.outcomes():
            play.evidence.add(OUTCOMES, outcome)


def _as_evidence(number: int, packet: Planned) -> dict[str, Any]:
    return {
        "n": number,
        "step": packet.step,
        "at_s": packet.at_s,
        "topic": packet.topic,
        **({"fault": packet.fault} if packet.fault else {}),
        **({} if packet.sent else {"sent": False}),
        "state": dict(packet.state),
        "report": packet.report,
        "says": {
            "gateway_id": packet.gateway_id,
            "device_id": packet.device_id,
            "sent_at_s": packet.stamped_s,
            **({"clock_off_by_s": packet.skew_s} if packet.skew_s else {}),
            "measurands": list(packet.measurands),
        },
        **({"spoilt": packet.spoilt} if packet.spoilt else {}),
    }


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        bounds = cast("dict[str, float]", value)
        return " and ".join(f"{'at least' if name == 'min' else 'at most'} {bound:g}" for name, bound in bounds.items())
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
