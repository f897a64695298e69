"""A controller that falls silent loses its circuit by the clock, without any further packet, and once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.end_to_end.controller_site import Site, packet


def _alive(available_kw: float = 300) -> bytes:
    return packet(
        measurands=[
            {"key": "HEARTBEAT_STATUS", "value": True},
            {"key": "AVAILABLE_CHARGING_CAPACITY", "value": available_kw},
            {"key": "FAIL_SAFE_CAPACITY", "value": 80},
        ]
    )


async def _losses(site: Site) -> list[Mapping[str, Any]]:
    found = await site.rows("SELECT payload FROM event_store WHERE event_type = 'ControllerHeartbeatLost' ORDER BY global_position")
    return [json.loads(row["payload"]) for row in found]


async def test_a_circuit_falls_back_to_the_fail_safe_capacity_by_the_clock_once_with_two_workers(site: Site) -> None:
    standby = site.another_worker()
    await standby.says("configuration loaded")
    await site.publish(_alive())
    await site.arrives("event_store WHERE event_type = 'ControllerHeartbeatLost'")
    # Both workers sweep twice a second: the other one has had its turns when the first has had three.
    await site.arrives(
        "event_store WHERE event_type = 'ControllerHeartbeatLost' AND clock_timestamp() - recorded_at > interval '1.5 s'"
    )
    loss, *more = await _losses(site)
    assert not more
    assert (loss["available_capacity_kw"], loss["source"], loss["circuit_id"]) == (80, "FAIL_SAFE", "gc-1")
    health = (await site.rows("SELECT status, deadline_at FROM controller_health"))[0]
    assert (health["status"], health["deadline_at"]) == ("LOST", None)


async def test_a_lost_controller_is_noticed_also_when_its_worker_died(site: Site) -> None:
    await site.publish(_alive())
    # Where it is noticed before the worker dies, it must not be noticed again.
    await site.arrives("controller_health WHERE status IN ('OK', 'LOST')")
    site.worker.kill9()
    await site.another_worker().says("configuration loaded")
    await site.arrives("event_store WHERE event_type = 'ControllerHeartbeatLost'")
    assert len(await _losses(site)) == 1


async def test_a_controller_that_comes_back_has_its_circuit_again(site: Site) -> None:
    await site.publish(_alive())
    await site.arrives("event_store WHERE event_type = 'ControllerHeartbeatLost'")
    await site.publish(_alive(250))
    await site.arrives("event_store WHERE event_type = 'ControllerHeartbeatRestored'")
    # As it was then: soon it is lost again.
    latest = await site.rows(
        "SELECT payload FROM event_store "
        "WHERE subject = (SELECT DISTINCT subject FROM event_store WHERE event_type = 'ControllerHeartbeatLost') "
        "AND NOT history_only "
        "AND transaction_id <= (SELECT min(transaction_id) FROM event_store WHERE event_type = 'ControllerHeartbeatRestored') "
        "ORDER BY observed_at DESC, sent_at DESC, event_id DESC LIMIT 1"
    )
    assert json.loads(latest[0]["payload"])["available_capacity_kw"] == 250
    assert await site.schema_faults() == []
