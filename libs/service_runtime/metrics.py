"""What a process that ingests packets counts, under names that dashboards rely on.

Labels have few values: a source, an outcome, a code; never a device or depot, and of gateways only the few that send most
garbage (see `noisy_gateways`). Callers count per batch, not per packet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service_runtime.noisy_gateways import NoisyGateways

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_PACKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)


class IngestMetrics:
    """The metrics of one ingest worker, in a registry that its `/metrics` shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._packets = Counter(
            "depotgrid_packets",
            "Packets by the source they came from and what became of them",
            ["source", "outcome"],
            registry=registry,
        )
        self._batch = Histogram(
            "depotgrid_batch_packets", "Packets per batch", ["source"], buckets=_BATCH_PACKETS, registry=registry
        )
        self._batch_duration = Histogram(
            "depotgrid_batch_duration_seconds",
            "From taking a batch to its acknowledgement",
            ["source"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self._commit_duration = Histogram(
            "depotgrid_commit_duration_seconds", "The transaction of one batch", buckets=_LATENCY_S, registry=registry
        )
        self._retries = Counter(
            "depotgrid_batch_retries", "Batches tried again because the database did not take them", registry=registry
        )
        self._dead_letters = Counter("depotgrid_dead_letters", "Packets set aside, by reason", ["reason_code"], registry=registry)
        self._noisy_gateways = NoisyGateways(registry)
        self._bodies_dropped = Counter(
            "depotgrid_dead_letter_bodies_dropped",
            "Dead letters whose bytes were let go of because there were too many of their cause",
            ["reason_code"],
            registry=registry,
        )
        self._remediations = Counter("depotgrid_remediations", "Reports without a target, by code", ["code"], registry=registry)
        self._heartbeat_losses = Counter(
            "depotgrid_heartbeat_losses", "Controllers whose heartbeat went missing", registry=registry
        )
        self._diverted = Counter(
            "depotgrid_diverted_packets", "Packets above their gateway's limit, put back into the broker", registry=registry
        )
        self._waiting_gateways = Gauge(
            "depotgrid_waiting_gateways", "Gateways whose packets wait in the broker because of their limit", registry=registry
        )
        self._waiting_bytes = Gauge("depotgrid_waiting_bytes", "About how many bytes of them wait there", registry=registry)
        self._resting_partitions = Gauge(
            "depotgrid_resting_partitions",
            "Kafka partitions not read because a gateway in them is above its limit",
            registry=registry,
        )
        self._in_flight = Gauge("depotgrid_in_flight_packets", "Received and not yet acknowledged", ["source"], registry=registry)
        self._unacknowledged_age = Gauge(
            "depotgrid_unacknowledged_age_seconds", "Age of the oldest packet not yet acknowledged", ["source"], registry=registry
        )

    def count_batch(self, source: str, outcomes: Mapping[str, int], *, duration_s: float, commit_s: float) -> None:
        """One batch of `source` is acknowledged: how many packets had which outcome, and how long it and its transaction took."""
        for outcome, packets in outcomes.items():
            self._packets.labels(source, outcome).inc(packets)
        self._batch.labels(source).observe(sum(outcomes.values()))
        self._batch_duration.labels(source).observe(duration_s)
        self._commit_duration.observe(commit_s)

    def count_retry(self) -> None:
        """A batch's transaction failed for want of a database and is tried again."""
        self._retries.inc()

    def count_dead_letters(self, by_reason: Mapping[str, int]) -> None:
        """Packets were set aside, by reason code."""
        for reason, packets in by_reason.items():
            self._dead_letters.labels(reason).inc(packets)

    def count_causes(self, by_cause: Mapping[tuple[str, str | None], int]) -> None:
        """The same packets, by reason code and gateway."""
        self._noisy_gateways.count(by_cause)

    def count_bodies_dropped(self, by_reason: Mapping[str, int]) -> None:
        """The bytes of dead letters were let go of, by reason code."""
        for reason, letters in by_reason.items():
            self._bodies_dropped.labels(reason).inc(letters)

    def count_remediations(self, by_code: Mapping[str, int]) -> None:
        """Reports found no target, by remediation code."""
        for code, reports in by_code.items():
            self._remediations.labels(code).inc(reports)

    def count_heartbeat_losses(self, controllers: int) -> None:
        """So many controllers were found to have stopped their heartbeat."""
        self._heartbeat_losses.inc(controllers)

    def count_diverted(self, packets: int) -> None:
        """So many packets were put back into the broker."""
        self._diverted.inc(packets)

    def watch_waiting(self, *, gateways: Callable[[], float], waiting_bytes: Callable[[], float]) -> None:
        """Read these two whenever metrics are asked for."""
        self._waiting_gateways.set_function(gateways)
        self._waiting_bytes.set_function(waiting_bytes)

    def watch_partitions(self, *, resting: Callable[[], float]) -> None:
        """Read this whenever metrics are asked for."""
        self._resting_partitions.set_function(resting)

    def watch(self, source: str, *, in_flight: Callable[[], float], unacknowledged_age_s: Callable[[], float]) -> None:
        """Read these two of a source whenever metrics are asked for."""
        self._in_flight.labels(source).set_function(in_flight)
        self._unacknowledged_age.labels(source).set_function(unacknowledged_age_s)


class RelayMetrics:
    """The metrics of one relay. `broker` is `mqtt` or `kafka`, `kind` is `event` or `dead-letter`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._published = Counter(
            "depotgrid_relay_published", "Outbox rows that a broker confirmed", ["broker", "kind"], registry=registry
        )
        self._retries = Counter(
            "depotgrid_relay_retries", "Batches sent again because a broker did not confirm them", ["broker"], registry=registry
        )
        self._lag = Gauge(
            "depotgrid_relay_lag_seconds", "Age of the oldest outbox row not yet published", ["broker"], registry=registry
        )
        self._shares = Gauge("depotgrid_relay_shares", "Shares of the streams that this relay holds", ["broker"], registry=registry)

    def count_published(self, broker: str, kind: str, rows: int) -> None:
        """A broker confirmed so many rows of a kind."""
        self._published.labels(broker, kind).inc(rows)

    def count_retry(self, broker: str) -> None:
        """A broker did not confirm a batch, which is sent again."""
        self._retries.labels(broker).inc()

    def watch(self, broker: str, *, lag_s: Callable[[], float], shares: Callable[[], float]) -> None:
        """Read these two of a broker whenever metrics are asked for."""
        self._lag.labels(broker).set_function(lag_s)
        self._shares.labels(broker).set_function(shares)


class BridgeMetrics:
    """The metrics of one bridge from MQTT to Kafka."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._forwarded = Counter(
            "depotgrid_bridge_packets", "Packets by what became of them: FORWARDED or DEAD_LETTERED", ["outcome"], registry=registry
        )
        self._retries = Counter(
            "depotgrid_bridge_retries", "Batches sent again because Kafka or the database did not take them", registry=registry
        )
        self._in_flight = Gauge("depotgrid_bridge_in_flight_packets", "Received and not yet acknowledged", registry=registry)
        self._unacknowledged_age = Gauge(
            "depotgrid_bridge_unacknowledged_age_seconds", "Age of the oldest packet not yet acknowledged", registry=registry
        )

    def count(self, outcome: str, packets: int) -> None:
        """So many packets are acknowledged, with this outcome."""
        self._forwarded.labels(outcome).inc(packets)

    def count_retry(self) -> None:
        """A batch was not taken and is sent again."""
        self._retries.inc()

    def watch(self, *, in_flight: Callable[[], float], unacknowledged_age_s: Callable[[], float]) -> None:
        """Read these two whenever metrics are asked for."""
        self._in_flight.set_function(in_flight)
        self._unacknowledged_age.set_function(unacknowledged_age_s)
