"""Which partitions of Kafka rest, and until when, because a gateway in them sent more than its limit.

A batch is read whole, whatever is in it, and each record charges its gateway's bucket, which may go into debt. The partitions that
an indebted gateway's records came from are not read until it has paid. Neighbours in those partitions wait along, for Kafka can
pass no record over; those in others go on. So each gateway comes to its limit on average, and ahead of it by no more than a batch.

Whose a record is: the gateway of the MQTT topic, where a bridge forwarded it; else the gateway that its device, by the key, is
configured for. All devices that nobody configured share one bucket. Buckets are a worker's own: partitions that move bring their
debts to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from aiokafka import TopicPartition

from ingest_worker.token_bucket import GatewayLimit, TokenBucket
from sensor_packet.packet import ClaimedIdentity

_MOST_IDLE_BUCKETS = 1_000
_NOBODY = ""


class PartitionPauses:
    """The buckets of all gateways that a worker reads from Kafka. `gateway_of` knows devices."""

    def __init__(self, limit: GatewayLimit, gateway_of: Callable[[str], str | None]) -> None:
        self._limit = limit
        self._gateway_of = gateway_of
        self._buckets: dict[str, TokenBucket] = {}
        self._prune_at = _MOST_IDLE_BUCKETS

    def charge(self, records: Iterable[tuple[TopicPartition, ClaimedIdentity]], now: float) -> Mapping[TopicPartition, float]:
        """Charge a batch to its gateways; gives the partitions that are to rest and for how many seconds."""
        counts: dict[tuple[TopicPartition, str], int] = {}
        for partition, claimed in records:
            gateway_id = claimed.gateway_id or self._gateway_of(claimed.device_id or "") or _NOBODY
            counts[partition, gateway_id] = counts.get((partition, gateway_id), 0) + 1
        for (_, gateway_id), packets in counts.items():
            self._bucket(gateway_id, now).charge(packets, now)
        rests: dict[TopicPartition, float] = {}
        for partition, gateway_id in counts:
            wait_s = self._bucket(gateway_id, now).wait_s(now)
            if wait_s > rests.get(partition, 0.0):
                rests[partition] = wait_s
        return rests

    def _bucket(self, gateway_id: str, now: float) -> TokenBucket:
        bucket = self._buckets.get(gateway_id)
        if bucket is None:
            if len(self._buckets) >= self._prune_at:
                self._buckets = {name: kept for name, kept in self._buckets.items() if not kept.is_full(now)}
                self._prune_at = max(_MOST_IDLE_BUCKETS, 2 * len(self._buckets))
            bucket = self._buckets[gateway_id] = TokenBucket(self._limit, now)
        return bucket
