"""Load: many depots that report at a steady rate, and the truth about whether the rate was held.

Each depot has one controller; the depots speak in turn, so that each sends every `depots / rate` seconds. Depots are dealt out
to a few lanes with a connection each, a depot always to the same one, which keeps the order of its packets. A lane sends
whatever is due since it last looked, at most `_MOST_AT_ONCE`, and waits until it is confirmed: when confirmations come too
slowly the lane falls behind, and what it falls behind by is told. The rate is what was confirmed over the time until the last
confirmation; it is held where that is within `TOLERANCE` of what was asked for. Depots that are not there yet are made over
HTTP first, all alike, and stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx2
import msgspec

from depot_sim.play import Sender
from depot_sim.product import ProductFault
from depot_sim.schedule import wire_time
from depot_sim.sending import Outgoing
from sensor_packet.topics import mqtt_packet_topic

TOLERANCE = 0.02
LANES = 4
_SLOT_S = 0.02
_MOST_AT_ONCE = 400
_MAKING_AT_ONCE = 6
_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class FleetWish:
    """How many depots, how many packets per second of all together, for how long; `prefix` begins the depots' ids."""

    depots: int
    rate: float
    seconds: float
    prefix: str


@dataclass(frozen=True, slots=True)
class FleetResult:
    """What came of it: packets confirmed and the time in s; `waited` is the share of the lanes' time spent on confirmations."""

    asked_per_s: float
    confirmed: int
    took_s: float
    waited: float
    by_second: tuple[int, ...]

    @property
    def confirmed_per_s(self) -> float:
        """The rate that was reached."""
        return self.confirmed / self.took_s if self.took_s > 0 else 0.0

    @property
    def deviation(self) -> float:
        """How far the rate was from what was asked for, as a share of that; negative where it was less."""
        return self.confirmed_per_s / self.asked_per_s - 1

    @property
    def held(self) -> bool:
        """Whether the rate was held."""
        return abs(self.deviation) <= TOLERANCE

    def told(self) -> str:
        """For a person."""
        head = (
            f"asked {self.asked_per_s:g}/s, confirmed {self.confirmed_per_s:.0f}/s over {self.took_s:.1f} s ({self.deviation:+.1%})"
        )
        if self.held:
            return f"{head}: held"
        slow = "whoever confirms them is" if self.waited > 0.8 else "this simulator is"
        return f"{head}: NOT held; {slow} the bound: {self.waited:.0%} of the time went into waiting for confirmations"


@dataclass(slots=True)
class _Count:
    confirmed: int = 0
    waited_s: float = 0.0
    by_second: dict[int, int] = field(default_factory=dict[int, int])


def depot_name(prefix: str, number: int) -> str:
    """The id of a depot of the fleet."""
    return f"{prefix}-{number:05d}"


def site_of(prefix: str, number: int) -> dict[str, Any]:
    """The site document of a depot of the fleet."""
    name = depot_name(prefix, number)
    return {
        "depot": {"depot_id": name, "name": f"Fleet depot {number}", "timezone": "Australia/Perth"},
        "circuits": [{"circuit_id": f"{name}-gc", "name": "Grid connection", "rating_kw": 500, "safe_capacity_kw": 50}],
        "power_sources": [{"power_source_id": f"{name}-bess", "circuit_id": f"{name}-gc", "kind": "BATTERY", "name": "Battery"}],
        "gateways": [{"gateway_id": f"{name}-gw", "name": "Gateway"}],
        "devices": [
            {
                "device_id": f"{name}-ctrl",
                "gateway_id": f"{name}-gw",
                "circuit_id": f"{name}-gc",
                "profile": "bba-microgrid-controller",
            }
        ],
    }


async def make_depots(wish: FleetWish, api_url: str, headers: Mapping[str, str], progress: Callable[[int, int], None]) -> int:
    """Make the depots of the fleet that are not there; gives how many were made. ProductFault where one can not be."""
    async with httpx2.AsyncClient(timeout=_ANSWER_S, trust_env=False, headers=dict(headers)) as http:
        there = await _depots_there(http, api_url)
        lacking = [number for number in range(wish.depots) if depot_name(wish.prefix, number) not in there]
        room, made = asyncio.Semaphore(_MAKING_AT_ONCE), 0

        async def make(number: int) -> None:
            nonlocal made
            async with room:
                path = f"/api/depot/{depot_name(wish.prefix, number)}/site"
                answer = await http.put(f"{api_url}{path}", json=site_of(wish.prefix, number))
                if answer.status_code != 200:
                    raise ProductFault(f"{api_url}{path}: {answer.status_code} {answer.text[:200]}")
            made += 1
            progress(made, len(lacking))

        await asyncio.gather(*(make(number) for number in lacking))
        return made


async def _depots_there(http: httpx2.AsyncClient, api_url: str) -> set[str]:
    found: set[str] = set()
    cursor: str | None = None
    while True:
        answer = await http.get(f"{api_url}/api/depot", params={"limit": "500", **({"cursor": cursor} if cursor else {})})
        if answer.status_code != 200:
            raise ProductFault(f"{api_url}/api/depot: {answer.status_code} {answer.text[:200]}")
        page: dict[str, Any] = answer.json()
        found |= {one["depot_id"] for one in page["items"]}
        cursor = page["next"]
        if cursor is None:
            return found


async def drive(
    wish: FleetWish, senders: Sequence[Sender], now: Callable[[], datetime], progress: Callable[[float, int], None]
) -> FleetResult:
    """Send at the rate for the time, a lane for each sender, of whom there are no more than depots; UndeliveredError as they do."""
    clock = asyncio.get_running_loop().time
    count, run = _Count(), wire_time(now())
    # One packet before the time counts, so that connecting is no part of it.
    await asyncio.gather(
        *(sender.send([_packet(wish, lane, run, now(), -1 - lane)], _ignore) for lane, sender in enumerate(senders))
    )
    began = clock()
    lanes = [_lane(wish, lane, len(senders), sender, run, now, count, began, progress) for lane, sender in enumerate(senders)]
    await asyncio.gather(*lanes)
    took_s = clock() - began
    by_second = tuple(count.by_second.get(second, 0) for second in range(max(count.by_second, default=-1) + 1))
    return FleetResult(wish.rate, count.confirmed, took_s, count.waited_s / took_s / len(senders), by_second)


async def _lane(
    wish: FleetWish,
    lane: int,
    lanes: int,
    sender: Sender,
    run: str,
    now: Callable[[], datetime],
    count: _Count,
    began: float,
    progress: Callable[[float, int], None],
) -> None:
    clock = asyncio.get_running_loop().time
    total, sent, own = _share(round(wish.rate * wish.seconds), lane, lanes), 0, _share(wish.depots, lane, lanes)

    def confirmed(_number: int, _code: str | None) -> None:
        count.confirmed += 1
        second = int(clock() - began)
        count.by_second[second] = count.by_second.get(second, 0) + 1

    while sent < total:
        elapsed_s = clock() - began
        due = min(total, _share(int(wish.rate * elapsed_s), lane, lanes), sent + _MOST_AT_ONCE)
        if due > sent:
            at = now()
            going = [_packet(wish, lane + number % own * lanes, run, at, lane + number * lanes) for number in range(sent, due)]
            waits_since = clock()
            await sender.send(going, confirmed)
            count.waited_s += clock() - waits_since
            sent = due
            progress(clock() - began, count.confirmed)
        else:
            await asyncio.sleep(_SLOT_S)


def _share(count: int, lane: int, lanes: int) -> int:
    """How many of the packets 0 to `count` - 1 are a lane's, dealt out in turn."""
    return (count - lane + lanes - 1) // lanes if count > lane else 0


def _packet(wish: FleetWish, depot: int, run: str, at: datetime, number: int) -> Outgoing:
    name = depot_name(wish.prefix, depot)
    gateway_id, device_id = f"{name}-gw", f"{name}-ctrl"
    body = {
        "schema_version": "1.0",
        "packet_id": f"{run}/{number}",
        "gateway_id": gateway_id,
        "device_id": device_id,
        "sent_at": wire_time(at),
        "measurands": [
            {"key": "HEARTBEAT_STATUS", "value": True},
            {"key": "AVAILABLE_CHARGING_CAPACITY", "value": 300 + number % 100, "unit": "kW"},
            {"key": "SOC", "value": number % 101, "unit": "%"},
        ],
    }
    return Outgoing(number, mqtt_packet_topic(gateway_id, device_id), device_id, msgspec.json.encode(body))


def _ignore(_number: int, _code: str | None) -> None:
    return
