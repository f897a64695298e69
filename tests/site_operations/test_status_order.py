"""What a capability shows does not depend on the order in which its reports came, nor on how often they did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.microgrid.sites import NOW, action, control_point, site

from event_store.memory import InMemoryEventStore
from event_store.read import Position
from microgrid import events
from microgrid.capability import fold_latest
from microgrid.card import CapabilityEntry, capability_entries
from microgrid.directory import SiteDirectory
from microgrid.site_model import UPDATE_MICROGRID_STATE, Device, SensorAction, Site
from sensor_packet.packet import ClaimedIdentity
from site_operations.ingest import Ingest, RawPacket

MOST_AHEAD_S = 300
LOOKED_AFTER_S = 100
FLAG = "PEAK_SHAVING"
FORMER = "former"
_FEEDS = action(UPDATE_MICROGRID_STATE, FLAG, capability="PEAK_SHAVING")
# When each packet was sent after what it tells was observed, in seconds: two are sent at the same moment.
_SENT_AFTER_S = {"p-1": 0, "p-2": 5, "p-3": 5}


def _site(owner: str) -> Site:
    """Both devices report the capability, and one owns it."""
    both: tuple[SensorAction, ...] = (
        _FEEDS,
        replace(_FEEDS, sensor_action_id=_FEEDS.sensor_action_id[:-1] + "9", device_id=FORMER),
    )
    bare = site(*both, points=(control_point("PEAK_SHAVING", owner),))
    return replace(bare, devices=(*bare.devices, Device(FORMER, "gw", "gc-1", None, enabled=True)))


@dataclass(frozen=True)
class Report:
    """A packet with one flag in it; `observed_s` is relative to now."""

    packet_id: str
    observed_s: int
    value: bool
    quality: str
    device_id: str

    @property
    def observed_at(self) -> datetime:
        return NOW + timedelta(seconds=self.observed_s)

    @property
    def sent_at(self) -> datetime:
        return self.observed_at + timedelta(seconds=_SENT_AFTER_S[self.packet_id])

    @property
    def event_id(self) -> str:
        selectors = events.action_selectors("PEAK_SHAVING", None, None, None)
        kind = events.CAPABILITY_STATUS_REPORTED
        return events.report_event_id(kind, self.device_id, self.packet_id, FLAG, selectors, self.observed_at, self.value)

    @property
    def counts(self) -> bool:
        believable = (self.sent_at - NOW).total_seconds() <= MOST_AHEAD_S
        return self.quality != "BAD" and self.device_id == "dev" and believable

    def raw(self) -> RawPacket:
        measurand = {"key": FLAG, "value": self.value, "quality": self.quality, "observed_at": self.observed_at.isoformat()}
        body = {
            "schema_version": "1.0",
            "packet_id": self.packet_id,
            "gateway_id": "gw",
            "device_id": self.device_id,
            "sent_at": self.sent_at.isoformat(),
            "measurands": [measurand],
        }
        return RawPacket(json.dumps(body).encode(), "mqtt", "iot", ClaimedIdentity("gw", self.device_id), NOW)


_FIRST = Report("p-1", -10, value=True, quality="GOOD", device_id="dev")

reports = st.builds(
    Report,
    packet_id=st.sampled_from(sorted(_SENT_AFTER_S)),
    # An old one, two that may be at the same moment, ones from a clock ahead, and one from a clock too far ahead.
    observed_s=st.sampled_from([-86_400, -301, -10, -10, -1, 60, 295, 296, 301]),
    value=st.booleans(),
    quality=st.sampled_from(["GOOD", "GOOD", "UNCERTAIN", "BAD"]),
    device_id=st.sampled_from(["dev", "dev", "dev", FORMER]),
)
# One identity has one content but for its quality, which a sender may not change.
arrivals = st.lists(reports, max_size=8, unique_by=lambda one: (one.event_id, one.observed_s))


async def shown(batches: Sequence[Sequence[Report]]) -> CapabilityEntry:
    """What the card tells after the former owner's last report, the hand-over, and then these batches."""
    store = InMemoryEventStore()
    before = Report("p-1", -60, value=True, quality="GOOD", device_id=FORMER)
    for owner, given_to in ((FORMER, [[before]]), ("dev", batches)):
        ingest = Ingest(store, SiteDirectory([_site(owner)]), lambda: NOW, MOST_AHEAD_S)
        for batch in given_to:
            await ingest.store([ingest.prepare(one.raw()) for one in batch])
    stored = [one.event for one in await store.follow(Position(0, 0), 10_000)]
    now_site = _site("dev")
    assert now_site.microgrid is not None
    [entry] = capability_entries(now_site, now_site.microgrid, fold_latest(stored), NOW + timedelta(seconds=LOOKED_AFTER_S))
    return entry


@given(arrivals.flatmap(lambda one: st.tuples(st.just(one), st.permutations(one), st.lists(st.sampled_from(one or [_FIRST])))))
def test_a_capability_shows_its_greatest_counting_report_in_any_order_and_however_often(
    given_reports: tuple[list[Report], list[Report], list[Report]],
) -> None:
    once, shuffled, again = given_reports
    again = again if once else []
    entry = asyncio.run(shown([once]))
    # One by one, in another order, some of them once more in between and at the end.
    assert asyncio.run(shown([[one] for one in [*again, *shuffled, *again]])) == entry
    counting = [one for one in once if one.counts]
    before = Report("p-1", -60, value=True, quality="GOOD", device_id=FORMER)
    latest = max([before, *counting], key=lambda one: (one.observed_at, one.sent_at, one.event_id))
    assert (entry.event_id, entry.observed_at) == (latest.event_id, latest.observed_at)
    assert entry.operational_status == ("ON" if latest.value else "OFF")
    assert entry.source is not None
    assert entry.source.device_id == latest.device_id
    # A clock ahead makes nothing younger than its receipt.
    age_s = LOOKED_AFTER_S + max(0, -latest.observed_s)
    assert (entry.age_s, entry.freshness) == (age_s, "FRESH" if age_s <= entry.stale_after_s else "STALE")
