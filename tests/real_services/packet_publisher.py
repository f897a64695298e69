"""A gateway that loses nothing: publishes numbered packets over MQTT 5, QoS 1, and counts what the broker confirmed.

A packet is confirmed by a PUBACK with reason 0x00. Reason 0x10 means that nobody is subscribed yet: the packet is kept and sent
again. After a lost connection everything unconfirmed is sent again in its order, before anything newer, so the order per device is
the publisher's to keep. While it is not known whether anybody is subscribed, packets go out one at a time: a window of several
could be confirmed in part, and sending the rest again would put it behind.

A load must last as long as the fault that happens under it, and how long that is, is for the machine to say. So a publisher may be
told to go slowly from some packet on, until it is told to hurry.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import queue
import threading
import time
from collections.abc import Sequence

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from tests.real_services.packet_plan import NumberedPacket

from sensor_packet.topics import mqtt_packet_topic

_SUCCESS = 0x00
_NO_SUBSCRIBER = 0x10
_CONNECT_S = 20.0
_RETRY_S = 0.1
SLOWLY = 1 / 20
"""Of the rate, where a publisher is to go slowly."""


class MqttPublisher:
    """Publishes `packets` in their order from a thread of its own, at most `rate` per second (None: as fast as it goes).

    From the packet with index `slow_from` on, one with a rate goes slowly, until `hurry`; then it makes good for the time lost.
    """

    def __init__(
        self,
        port: int,
        packets: Sequence[NumberedPacket],
        *,
        rate: float | None = None,
        window: int = 1000,
        name: str = "publisher",
        slow_from: int | None = None,
    ) -> None:
        self._port = port
        self._packets = packets
        self._rate = rate
        self._window = window
        self._name = name
        self._confirmed = [False] * len(packets)
        self._begun = 0
        self._wanted = len(packets)
        self._slow_from = len(packets) if slow_from is None or rate is None else slow_from
        self._hurried = threading.Event()
        self._enough = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.confirmed_count = 0
        self.unheard = 0
        """How often the broker said that nobody is subscribed."""
        self.connections = 0

    @property
    def confirmed(self) -> list[NumberedPacket]:
        """What the broker took responsibility for, in the order of sending."""
        return [packet for packet, taken in zip(self._packets, self._confirmed, strict=True) if taken]

    @property
    def sent(self) -> Sequence[NumberedPacket]:
        """What was sent at least once."""
        return self._packets[: self._begun]

    def start(self) -> MqttPublisher:
        """Begin to publish."""
        self._thread.start()
        return self

    def hurry(self) -> None:
        """Go slowly no more."""
        self._hurried.set()

    def begin_no_more(self) -> None:
        """Send nothing new. What was sent already is still sent again until it is confirmed, and `finished` waits for that."""
        self._enough.set()

    def stop(self) -> None:
        """Publish no more. What is not confirmed by now does not count."""
        self._stopping.set()
        self._thread.join(timeout=2 * _CONNECT_S)

    async def finished(self, timeout_s: float = 60.0) -> None:
        """Return when everything is confirmed; AssertionError after `timeout_s`."""
        await asyncio.to_thread(self._thread.join, timeout_s)
        if self._thread.is_alive():
            self.stop()
            raise AssertionError(f"only {self.confirmed_count} of {self._wanted} packets confirmed within {timeout_s:g} s")

    def _run(self) -> None:
        while not self._stopping.is_set() and self.confirmed_count < self._still_wanted():
            with contextlib.suppress(OSError, TimeoutError):
                _Connection(self._port, f"{self._name}-{self.connections}").publish_through(self)
            self._stopping.wait(_RETRY_S)

    def _still_wanted(self) -> int:
        if self._enough.is_set():
            self._wanted = self._begun
        return self._wanted

    def publish_on(self, connection: _Connection) -> None:
        """Send what is unconfirmed, in its order; returns when all is confirmed or nobody is subscribed, raises when cut off."""
        self.connections += 1
        left = [index for index, taken in enumerate(self._confirmed) if not taken]
        pending, before_slow = iter(left), bisect.bisect_left(left, self._slow_from)
        in_flight: dict[int, int] = {}
        heard = False
        started, sent = time.monotonic(), 0
        slow_since: float | None = None
        while not self._stopping.is_set():
            window = self._window if heard else 1
            due = len(self._packets) if self._rate is None else int((time.monotonic() - started) * self._rate) + 1
            if self._rate is not None and sent >= before_slow and not self._hurried.is_set():
                slow_since = slow_since or time.monotonic()
                due = before_slow + int((time.monotonic() - slow_since) * self._rate * SLOWLY)
            elif not self._hurried.is_set():
                due = min(due, before_slow)
            wanted = self._still_wanted()
            while len(in_flight) < window and sent < due and (index := next(pending, wanted)) < wanted:
                packet = self._packets[index]
                topic = mqtt_packet_topic(packet.sender.gateway_id, packet.sender.device_id)
                in_flight[connection.send(topic, packet.body)] = index
                sent += 1
                self._begun = max(self._begun, index + 1)
            if not in_flight and self.confirmed_count == self._still_wanted():
                return
            for mid, reason in connection.confirmations(wait_s=0.05 if len(in_flight) >= window else 0.002):
                index = in_flight.pop(mid)
                if reason == _NO_SUBSCRIBER:
                    self.unheard += 1
                    return
                if reason != _SUCCESS:
                    raise ConnectionAbortedError(f"the broker refuses a packet with reason {reason:#x}")
                heard = True
                self._confirmed[index] = True
                self.confirmed_count += 1


class _Connection:
    """One connection to the broker. Confirmations come in a thread of paho's and wait in a queue."""

    def __init__(self, port: int, client_id: str) -> None:
        self._confirmations: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._connected = threading.Event()
        self._lost = threading.Event()
        self._port = port
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5, reconnect_on_failure=False)
        self._client.max_inflight_messages_set(65_535)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish

    def publish_through(self, publisher: MqttPublisher) -> None:
        self._client.connect("127.0.0.1", self._port, keepalive=10, clean_start=True)
        self._client.loop_start()
        try:
            if not self._connected.wait(_CONNECT_S):
                raise TimeoutError("no answer to CONNECT")
            publisher.publish_on(self)
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def send(self, topic: str, body: bytes) -> int:
        self._raise_when_lost()
        return self._client.publish(topic, body, qos=1).mid

    def confirmations(self, *, wait_s: float) -> list[tuple[int, int]]:
        """(packet identifier, reason) of what was answered, after waiting for the first at most this long."""
        found: list[tuple[int, int]] = []
        with contextlib.suppress(queue.Empty):
            found.append(self._confirmations.get(timeout=wait_s))
            while True:
                found.append(self._confirmations.get_nowait())
        if not found:
            self._raise_when_lost()
        return found

    def _raise_when_lost(self) -> None:
        if self._lost.is_set():
            raise ConnectionResetError("the broker is gone")

    def _on_connect(self, _c: Client, _u: object, _f: ConnectFlags, reason: ReasonCode, _p: Properties | None) -> None:
        if reason.value == 0:
            self._connected.set()

    def _on_disconnect(self, _c: Client, _u: object, _f: DisconnectFlags, _r: ReasonCode, _p: Properties | None) -> None:
        self._lost.set()

    def _on_publish(self, _c: Client, _u: object, mid: int, reason: ReasonCode, _p: Properties) -> None:
        self._confirmations.put((mid, reason.value))
