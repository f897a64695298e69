"""Metrics: the names and labels that dashboards rely on."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from service_runtime.metrics import BridgeMetrics, IngestMetrics, RelayMetrics


def _text(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_a_batch_shows_in_packets_size_and_both_durations() -> None:
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)
    metrics.count_batch("mqtt", {"STORED": 9, "DEAD_LETTERED": 1}, duration_s=0.02, commit_s=0.01)
    metrics.count_batch("mqtt", {"STORED": 1}, duration_s=0.02, commit_s=0.01)
    text = _text(registry)
    assert 'depotgrid_packets_total{outcome="STORED",source="mqtt"} 10.0' in text
    assert 'depotgrid_packets_total{outcome="DEAD_LETTERED",source="mqtt"} 1.0' in text
    assert 'depotgrid_batch_packets_sum{source="mqtt"} 11.0' in text
    assert 'depotgrid_batch_duration_seconds_count{source="mqtt"} 2.0' in text
    assert "depotgrid_commit_duration_seconds_sum 0.02" in text


def test_codes_losses_and_retries_are_counted() -> None:
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)
    metrics.count_dead_letters({"MALFORMED_JSON": 2})
    metrics.count_remediations({"NO_TARGET": 3})
    metrics.count_heartbeat_losses(1)
    metrics.count_retry()
    text = _text(registry)
    assert 'depotgrid_dead_letters_total{reason_code="MALFORMED_JSON"} 2.0' in text
    assert 'depotgrid_remediations_total{code="NO_TARGET"} 3.0' in text
    assert "depotgrid_heartbeat_losses_total 1.0" in text
    assert "depotgrid_batch_retries_total 1.0" in text


def test_what_is_in_flight_is_read_when_asked_for() -> None:
    registry = CollectorRegistry()
    packets = [1.0]
    IngestMetrics(registry).watch("kafka", in_flight=lambda: packets[0], unacknowledged_age_s=lambda: 4.5)
    packets[0] = 7.0
    assert 'depotgrid_in_flight_packets{source="kafka"} 7.0' in _text(registry)
    assert 'depotgrid_unacknowledged_age_seconds{source="kafka"} 4.5' in _text(registry)


def test_the_relays_lag_and_confirmed_rows_show() -> None:
    registry = CollectorRegistry()
    relay = RelayMetrics(registry)
    relay.count_published("kafka", "event", 5)
    relay.count_retry("mqtt")
    relay.watch("kafka", lag_s=lambda: 2.5, shares=lambda: 4)
    text = _text(registry)
    assert 'depotgrid_relay_published_total{broker="kafka",kind="event"} 5.0' in text
    assert 'depotgrid_relay_retries_total{broker="mqtt"} 1.0' in text
    assert 'depotgrid_relay_lag_seconds{broker="kafka"} 2.5' in text
    assert 'depotgrid_relay_shares{broker="kafka"} 4.0' in text


def test_what_a_bridge_forwarded_and_still_has_in_hand_shows() -> None:
    registry = CollectorRegistry()
    bridge = BridgeMetrics(registry)
    bridge.count("FORWARDED", 3)
    bridge.count_retry()
    bridge.watch(in_flight=lambda: 7, unacknowledged_age_s=lambda: 1.5)
    text = _text(registry)
    assert 'depotgrid_bridge_packets_total{outcome="FORWARDED"} 3.0' in text
    assert "depotgrid_bridge_retries_total 1.0" in text
    assert "depotgrid_bridge_in_flight_packets 7.0" in text
    assert "depotgrid_bridge_unacknowledged_age_seconds 1.5" in text


def test_no_label_has_a_value_per_device_gateway_or_depot() -> None:
    registry = CollectorRegistry()
    IngestMetrics(registry)
    labels = {label for metric in registry.collect() for sample in metric.samples for label in sample.labels}
    assert not labels & {"device_id", "gateway_id", "depot_id", "device", "gateway", "depot"}
