"""A packet on a broker becomes events in the store: once, in history or as the latest value, as configured at the moment."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from deploy.dev.embedded_kafka import EmbeddedKafka
from tests.end_to_end.controller_site import Site, packet
from tests.real_services.kafka_publisher import KafkaPublisher, start_group_at_end
from tests.real_services.packet_plan import NumberedPacket, Sender
from tests.real_services.sites import CONTROLLER, DEPOT_ID, add_action, bind_capability
from tests.real_services.waiting import until


async def _latest(site: Site, measurand: str) -> object:
    found = await site.rows(
        "SELECT payload FROM event_store WHERE NOT history_only AND payload ->> 'measurand' = $1 "
        "ORDER BY observed_at DESC, sent_at DESC, event_id DESC LIMIT 1",
        measurand,
    )
    return json.loads(found[0]["payload"]).get("value") if found else None


async def test_the_same_packet_twice_over_mqtt_is_one_event(shared_site: Site) -> None:
    body = packet(measurands=[{"key": "SOC", "value": 71}], packet_id="twice")
    await shared_site.publish(body, body)
    await shared_site.publish(body)
    await shared_site.settle()
    assert await shared_site.count("event_store WHERE source_event_ref = 'twice'") == 1
    assert await shared_site.count("dead_letter WHERE body = $1", body) == 0


async def test_the_same_packet_over_mqtt_and_kafka_is_one_event(site: Site, kafka: EmbeddedKafka) -> None:
    group = "twice-by-two-ways"
    await start_group_at_end(kafka.bootstrap_servers, group, 4)
    site.worker.kill9()
    both = site.another_worker(kafka=kafka.bootstrap_servers, kafka_group_id=group)
    await both.consuming_mqtt()
    body = packet(measurands=[{"key": "SOC", "value": 72}], packet_id="by-two-ways")
    behind = packet(measurands=[{"key": "SOC", "value": 73}], packet_id="behind")
    await site.publish(body)
    await KafkaPublisher(kafka.bootstrap_servers, [NumberedPacket(1, CONTROLLER, "", one) for one in (body, body, behind)]).run()
    await site.arrives("event_store WHERE source_event_ref = 'behind'")
    assert await site.count("event_store WHERE source_event_ref = 'by-two-ways'") == 1


async def test_a_packet_id_used_again_with_other_content_is_another_event(shared_site: Site) -> None:
    await shared_site.publish(
        packet(measurands=[{"key": "SOC", "value": 10}], packet_id="reused"),
        packet(measurands=[{"key": "SOC", "value": 11}], packet_id="reused"),
    )
    await shared_site.settle()
    assert await shared_site.count("event_store WHERE source_event_ref = 'reused'") == 2


async def test_a_late_packet_enters_history_and_does_not_change_the_latest_value(site: Site) -> None:
    now = datetime.now(UTC)
    await site.publish(
        packet(measurands=[{"key": "SOC", "value": 80}], sent_at=now, packet_id="newest"),
        packet(measurands=[{"key": "SOC", "value": 20}], sent_at=now - timedelta(minutes=50), packet_id="late"),
    )
    await site.arrives("event_store WHERE source_event_ref = 'late'")
    assert await _latest(site, "SOC") == 80


async def test_a_refused_measurand_does_not_hold_back_its_neighbours(shared_site: Site) -> None:
    await shared_site.publish(
        packet(measurands=[{"key": "SOC", "value": 104}, {"key": "PEAK_SHAVING", "value": True}], packet_id="half-good")
    )
    await shared_site.arrives("event_store WHERE source_event_ref = 'half-good'")
    events = await shared_site.rows("SELECT event_type FROM event_store WHERE source_event_ref = 'half-good'")
    assert [row["event_type"] for row in events] == ["CapabilityStatusReported"]
    letters = await shared_site.rows(
        "SELECT reason_code, failed_actions FROM dead_letter WHERE device_id = $1", CONTROLLER.device_id
    )
    failed = [json.loads(row["failed_actions"]) for row in letters]
    assert [{"pointer": "/measurands/0/value", "measurand": "SOC", "code": "INVALID_VALUE"}] in failed


async def test_a_trace_is_followed_from_the_packet_into_its_dead_letter(shared_site: Site) -> None:
    body = b"not a packet, but traceable"
    process = await asyncio.create_subprocess_exec(
        *("mosquitto_pub", "-p", str(shared_site.mqtt.port), "-V", "mqttv5", "-q", "1", "-t", "iot/v1/gw-1/ctrl-1/packet"),
        *("-D", "publish", "user-property", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        *("-m", body.decode()),
    )
    assert await process.wait() == 0
    await shared_site.arrives("dead_letter WHERE trace_id = '0af7651916cd43dd8448eb211c80319c' AND body = $1", body)


async def test_a_binding_changed_by_sql_is_in_effect_without_a_restart(site: Site) -> None:
    other = Sender(CONTROLLER.gateway_id, "ctrl-2")
    on = [{"key": "PEAK_SHAVING", "value": True}]
    connection = await asyncpg.connect(site.database_url)
    try:
        async with connection.transaction():
            await connection.execute("INSERT INTO device (device_id, depot_id, gateway_id) VALUES ('ctrl-2', $1, 'gw-1')", DEPOT_ID)
            await connection.execute("UPDATE capability_control_point SET enabled = false WHERE capability = 'PEAK_SHAVING'")
            await bind_capability(connection, "ctrl-2", "PEAK_SHAVING", "PEAK_SHAVING")

        async def other_owns_it() -> bool:
            await site.publish(packet(other, measurands=on), sender=other)
            return await site.count("event_store WHERE event_type = 'CapabilityStatusReported'") > 0

        await until(other_owns_it, "the other controller owns peak shaving")
    finally:
        await connection.close()
    await site.publish(packet(measurands=on))
    assert await site.schema_faults() == []
    await site.arrives("dead_letter WHERE reason_code = 'CAPABILITY_SOURCE_CONFLICT' AND device_id = $1", CONTROLLER.device_id)


@pytest.mark.parametrize(
    ("settled_by", "target"),
    [
        pytest.param(
            "DELETE FROM power_source WHERE power_source_id = 'bess-2'", ("bess-1", "DEPOT_BATTERY"), id="one candidate less"
        ),
        pytest.param(
            "UPDATE sensor_action SET power_source_id = 'bess-2' WHERE action = 'UPDATE_POWER_SOURCE_STATE'",
            ("bess-2", "EXPLICIT"),
            id="explicit target",
        ),
    ],
)
async def test_an_ambiguity_never_writes_and_is_a_question_until_it_applies(
    site: Site, settled_by: str, target: tuple[str, str]
) -> None:
    state = [{"key": "DEVICE_POWER_STATE", "value": "ON"}]
    connection = await asyncpg.connect(site.database_url)
    try:
        async with connection.transaction():
            for name in ("bess-1", "bess-2"):
                await connection.execute(
                    "INSERT INTO power_source (power_source_id, depot_id, kind, name) VALUES ($1, $2, 'BATTERY', $1)",
                    name,
                    DEPOT_ID,
                )
            await add_action(connection, CONTROLLER.device_id, "DEVICE_POWER_STATE", "UPDATE_POWER_SOURCE_STATE")

        async def asked() -> bool:
            await site.publish(packet(measurands=state))
            return await site.count("remediation") > 0

        await until(asked, "the ambiguity is a question")
        question = (await site.rows("SELECT * FROM remediation"))[0]
        assert (question["device_id"], question["code"]) == (CONTROLLER.device_id, "AMBIGUOUS_DEPOT_BATTERY")
        assert json.loads(question["candidates"]) == ["bess-1", "bess-2"]
        assert await site.count("event_store") == 0
        assert await site.count("dead_letter WHERE reason_code = 'AMBIGUOUS_DEPOT_BATTERY' AND stage = 'ROUTE'") > 0
        await connection.execute(settled_by)
    finally:
        await connection.close()

    async def applied() -> bool:
        await site.publish(packet(measurands=state))
        return await site.count("event_store") > 0

    await until(applied, "the settled action applies")
    event = json.loads((await site.rows("SELECT payload FROM event_store LIMIT 1"))[0]["payload"])
    assert (event["power_source_id"], event["rule"]) == target
    assert await site.schema_faults() == []
    await until(lambda: _none_open(site), "the question is settled")


async def _none_open(site: Site) -> bool:
    return await site.count("remediation") == 0
