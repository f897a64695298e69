"""The fleet: every packet once, the order of each device kept, and the truth about the rate."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from depot_sim.fleet import FleetResult, FleetWish, drive, site_of
from depot_sim.sending import Confirmed, Outgoing
from sensor_packet.decode import decode
from sensor_packet.packet import Packet
from sensor_packet.topics import parse_mqtt_packet_topic
from site_registry.site_file import SiteDocument, parse_site


class _Sender:
    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    async def send(self, packets: Sequence[Outgoing], confirmed: Confirmed) -> None:
        await asyncio.sleep(0)
        self.sent += packets
        for packet in packets:
            confirmed(packet.number, None)

    async def reconnect(self) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize(("depots", "lanes"), [(10, 4), (7, 3), (4, 4), (1, 1)])
async def test_every_packet_goes_once_and_a_depot_keeps_to_one_connection(depots: int, lanes: int) -> None:
    senders = [_Sender() for _ in range(lanes)]
    result = await drive(FleetWish(depots, 2000, 0.25, "fleet"), senders, _now, lambda _elapsed, _confirmed: None)
    assert result.confirmed == 500 == sum(result.by_second)
    going = [packet for sender in senders for packet in sender.sent if packet.number >= 0]
    assert sorted(packet.number for packet in going) == list(range(500))
    lanes_of = Counter(device for sender in senders for device in {packet.device_id for packet in sender.sent})
    assert len(lanes_of) == depots
    assert set(lanes_of.values()) == {1}
    for sender in senders:
        numbers = [packet.number for packet in sender.sent if packet.number >= 0]
        assert numbers == sorted(numbers)


async def test_its_packets_are_taken_by_the_depots_that_it_makes() -> None:
    sender = _Sender()
    await drive(FleetWish(3, 100, 0.1, "fleet"), [sender], _now, lambda _elapsed, _confirmed: None)
    sites = [parse_site(msgspec.json.encode(site_of("fleet", number))) for number in range(3)]
    documents = [site for site in sites if isinstance(site, SiteDocument)]
    assert len(documents) == 3
    configured = {(one.gateway_id, one.device_id) for site in documents for one in site.devices}
    for packet in sender.sent:
        claimed = parse_mqtt_packet_topic(packet.topic)
        assert claimed is not None
        decoded = decode(packet.body, received_at=_now(), claimed=claimed)
        assert isinstance(decoded, Packet)
        assert decoded.refused == ()
        assert (decoded.gateway_id, decoded.device_id) in configured


@pytest.mark.parametrize(
    ("confirmed", "took_s", "waited", "held", "words"),
    [
        (5000, 1.0, 0.5, True, "(+0.0%): held"),
        (5000, 1.02, 0.5, True, "(-2.0%): held"),
        (5000, 1.03, 0.9, False, "whoever confirms them is the bound: 90%"),
        (5000, 1.5, 0.2, False, "this simulator is the bound: 20%"),
        (0, 0.0, 0.0, False, "NOT held"),
    ],
)
def test_a_rate_is_held_within_two_percent_and_else_it_says_who_is_the_bound(
    confirmed: int, took_s: float, waited: float, held: bool, words: str
) -> None:
    result = FleetResult(5000, confirmed, took_s, waited, (confirmed,))
    assert result.held is held
    assert words in result.told()
