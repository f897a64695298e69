"""What became of a run's packets, followed while it runs: the events that they caused and the refusals that they met.

A packet has left its trace when an event names it, when a dead letter holds its bytes (known by their hash), or when it was
refused to our face. Events are read from where the microgrid's history ended when the run began; of a run with a given epoch,
whose packets may have come before, from that epoch on. Sent packets that nobody configured anything for leave none, and none is
waited for.

As outcomes they are told by the packet's report, with what is the same in every run: no ids of the product, no times of the
server. How a heartbeat was lost or came back hangs on the clock, so that these events are counted, and not told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from depot_sim.product import Product

_POLL_S = 0.03
_OF_THE_CLOCK = ("ControllerHeartbeatLost", "ControllerHeartbeatRestored")
_TOLD = (
    "raw_value",
    "value",
    "unit",
    "quality",
    "state",
    "load_kw",
    "power_source_id",
    "capability",
    "operational_status",
    "circuit_id",
    "available_capacity_kw",
    "uncut_kw",
    "source",
    "rule",
)


class Traces:
    """The traces of one run in one microgrid, of the devices that it speaks as; `since` is the product's time when it began."""

    def __init__(self, product: Product, microgrid_id: str, devices: frozenset[str], since: str, start: Mapping[str, str]) -> None:
        self._product = product
        self._microgrid_id = microgrid_id
        self._devices = sorted(devices)
        self._since = since
        self._query = dict(start)
        self._report_of: dict[str, int] = {}
        self._report_of_bytes: dict[str, int] = {}
        self._waiting: set[int] = set()
        self._letters_due: set[int] = set()
        self._given_up: set[int] = set()
        self._events: dict[str, Mapping[str, Any]] = {}
        self._refused: dict[int, str] = {}
        self._before: Counter[str] = Counter()

    def sent(self, report: int, packet_id: str, body: bytes, *, refusable: bool, traceable: bool) -> None:
        """A packet goes out; `refusable` where it is meant to be refused, `traceable` where something is configured for it."""
        self._report_of[packet_id] = report
        self._report_of_bytes[hashlib.sha256(body).hexdigest()] = report
        if traceable and report not in self._refused:
            self._waiting.add(report)
        if refusable:
            self._letters_due.add(report)

    def refused(self, report: int, code: str) -> None:
        """It was refused to our face."""
        self._refused.setdefault(report, code)
        self._waiting.discard(report)
        self._letters_due.discard(report)

    async def settle(self, within_s: float) -> list[int]:
        """Wait until everything sent has left its trace; gives the reports that have not. Those are not waited for again."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + within_s
        while True:
            await self._look()
            left = (self._waiting | self._letters_due) - self._given_up
            if not left:
                return []
            if clock() >= deadline:
                self._given_up |= left
                return sorted(left)
            await asyncio.sleep(_POLL_S)

    def without_trace(self) -> list[int]:
        """The reports that have left no trace so far."""
        return sorted(self._waiting | self._letters_due)

    def event_count(self, event_type: str) -> int:
        """How many events of a type the run has made since `count_from_here`."""
        return self._counted()[event_type] - self._before[event_type]

    def count_from_here(self) -> None:
        """Let the events so far not count: what a first report means hangs on what was there before the run."""
        self._before = self._counted()

    def refusal_count(self, code: str) -> int:
        """How many reports were refused with a code."""
        return Counter(self._refused.values())[code]

    def outcomes(self) -> list[dict[str, Any]]:
        """What became of each report that left a trace, in the order of the reports."""
        told: dict[int, list[dict[str, Any]]] = {report: [] for report in self._refused}
        for event in self._events.values():
            report = self._report_of.get(event["source_event_ref"] or "")
            if report is not None and event["event_type"] not in _OF_THE_CLOCK:
                told.setdefault(report, []).append(_told(event))
        return [
            {
                "report": report,
                **({"refused": self._refused[report]} if report in self._refused else {}),
                "events": sorted(told[report], key=lambda one: (one["measurand"] or "", one["event_type"], str(one))),
            }
            for report in sorted(told)
        ]

    def _counted(self) -> Counter[str]:
        return Counter(event["event_type"] for event in self._events.values())

    async def _look(self) -> None:
        events = await self._product.events(self._microgrid_id, self._query)
        for event in events:
            self._events[event["event_id"]] = event
            report = self._report_of.get(event["source_event_ref"] or "")
            if report is not None:
                self._waiting.discard(report)
        if events:
            self._query = {"after": events[0]["position"]}
        if self._letters_due or (self._waiting and not events):
            await self._look_at_letters()

    async def _look_at_letters(self) -> None:
        for device_id in self._devices:
            for letter in await self._product.dead_letters(device_id, self._since):
                report = self._report_of_bytes.get(letter["body_sha256"])
                if report is not None:
                    self.refused(report, letter["reason_code"])


def _told(event: Mapping[str, Any]) -> dict[str, Any]:
    payload: Mapping[str, Any] = event["payload"]
    return {
        "event_type": event["event_type"],
        "measurand": payload.get("measurand"),
        "outcome": "RECORDED" if event["history_only"] else "APPLIED",
        **{name: payload[name] for name in _TOLD if name in payload},
    }
