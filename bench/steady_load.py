"""Publish packets over MQTT at a steady rate, each at its own moment, from a process of its own.

`python -m bench.steady_load PORT RATE SECONDS FIRST DEVICES`: packets are numbered from FIRST, and come from DEVICES devices in
turn; unless told otherwise from all but the last, which is left to whoever probes. At the end one line tells how many were
confirmed. A broker or worker that falls behind does not slow the publisher down: what is due is sent, up to a bound of unconfirmed
packets, beyond which it fails.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta

from bench import backlog

PROBED_DEVICE = backlog.DEVICES - 1
_MOST_UNCONFIRMED = 60_000


@contextlib.contextmanager
def steady_load(
    port: int, rate: int, seconds: float, first: int = 0, devices: int = PROBED_DEVICE
) -> Generator[subprocess.Popen[str]]:
    """The publisher as a process; `confirmed` reads what it says at its end."""
    command = [sys.executable, "-m", "bench.steady_load", str(port), str(rate), str(seconds), str(first), str(devices)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(10)


def confirmed(publisher: subprocess.Popen[str]) -> int:
    """Wait for the publisher's end; how many packets the broker confirmed."""
    told, _ = publisher.communicate(timeout=60)
    return int(told)


def publish(port: int, rate: int, seconds: float, first: int, devices: int) -> int:
    """Publish; gives how many packets were sent, all of which the broker has confirmed then."""
    publisher = backlog.MqttPublisher(port, f"bench-steady-{first}")
    begun = time.perf_counter()
    sent = 0
    total = int(rate * seconds)
    while sent < total:
        due = min(int((time.perf_counter() - begun) * rate) + 1, total)
        # So that each packet's time is the present one, however long this lasts.
        start = datetime.now(UTC) - timedelta(milliseconds=first + due)
        for number in range(first + sent, first + due):
            publisher.send(*backlog.packet(number, start, number % devices))
        sent = due
        publisher.take_confirmations()
        if publisher.unconfirmed > _MOST_UNCONFIRMED:
            raise RuntimeError(f"{publisher.unconfirmed} packets are not confirmed")
        time.sleep(max(begun + sent / rate - time.perf_counter(), 0))
    while publisher.unconfirmed:
        publisher.take_confirmations(wait=True)
    publisher.close()
    return sent


if __name__ == "__main__":
    print(publish(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
