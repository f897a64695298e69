"""How fast one worker drains a backlog over MQTT QoS 1, acknowledged after commit, beside the stock handler and the bare limit.

Each contender gets its own persistent session, filled while nobody is connected; then its process starts. All in one run, on one
machine, one after the other.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import threading
from collections.abc import Callable
from typing import Any

import asyncpg
from gmqtt import Client, Subscription

from bench import backlog, bare_limit, stock_handler
from bench.drain import Contender, Drained, drain, somebody_is_connected
from bench.figure import Figure
from bench.stack import Stack, stack

PACKETS = int(os.environ.get("BENCH_PACKETS", "60000"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
_STOCK_PACKETS = 4_000
_LISTENING_S = 4.0
_OURS = "bench-ours"


def measure() -> list[Figure]:
    """The three contenders in turn, `BENCH_RUNS` times; medians of the rates, and of the ratios within each run."""
    runs = [run() for _ in range(RUNS)]
    ours, bare, stock = (statistics.median(one[name].rate for one in runs) for name in ("ours", "bare limit", "stock handler"))
    of_stock = statistics.median(one["ours"].rate / one["stock handler"].rate for one in runs)
    of_bare = statistics.median(one["ours"].rate / one["bare limit"].rate for one in runs)
    cpu_us = {who: statistics.median(one["ours"].cpu_us(who) for one in runs) for who in ("worker", "broker", "database")}
    bare_us = {who: statistics.median(one["bare limit"].cpu_us(who) for one in runs) for who in cpu_us}
    values = {
        "runs": [{name: {"packets": d.packets, "seconds": d.seconds, "cpu_s": d.cpu_s} for name, d in one.items()} for one in runs]
    }
    return [
        Figure("MQTT QoS 1, acknowledged after commit", f"{ours:,.0f} packets/s", "≥ 15,000 packets/s", ours >= 15_000, values),
        Figure("… beside a stock FastStream MQTT handler", f"{of_stock:.1f} × its {stock:,.0f}/s", "≥ 12 ×", of_stock >= 12),
        Figure("… as a share of the bare limit", f"{of_bare:.0%} of its {bare:,.0f}/s", "≥ 60 %", of_bare >= 0.6),
        Figure(
            "… CPU of a packet", cpu_text(cpu_us), f"bare: {cpu_text(bare_us)}", held=None, values={"ours": cpu_us, "bare": bare_us}
        ),
    ]


def cpu_text(cpu_us: dict[str, float]) -> str:
    """What one packet takes of each process, in words."""
    return ", ".join(f"{who} {microseconds:.0f}" for who, microseconds in cpu_us.items()) + " µs"


def run() -> dict[str, Drained]:
    """Run the three contenders once each."""
    with stack(mqtt=True) as on:
        asyncio.run(_prepare(on.database_url))
        here = (on.database_url, str(on.mqtt_port))
        contenders = (
            (_OURS, Contender("ours", [sys.executable, "-m", "ingest_worker"], "event_store", PACKETS)),
            (bare_limit.CLIENT_ID, Contender("bare limit", [sys.executable, "-m", "bench.bare_limit", *here], "bare", PACKETS)),
            (
                stock_handler.CLIENT_ID,
                Contender("stock handler", [sys.executable, "-m", "bench.stock_handler", *here], "bare", _STOCK_PACKETS),
            ),
        )
        return {contender.name: asyncio.run(_drain(client_id, contender, on)) for client_id, contender in contenders}


async def _prepare(url: str) -> None:
    await backlog.seed_site(url)
    connection = await asyncpg.connect(url)
    await connection.execute(bare_limit.TABLE)
    await connection.close()


async def _drain(client_id: str, contender: Contender, on: Stack) -> Drained:
    environment = worker_environment(on, mqtt_url=f"mqtt://127.0.0.1:{on.mqtt_port}", mqtt_client_id=_OURS)
    live = client_id == stock_handler.CLIENT_ID
    if live:
        # The stock handler's client breaks off when packets arrive before its subscription is confirmed, so it gets no
        # backlog: its packets are published while it listens, which only flatters it.
        threading.Timer(_LISTENING_S, _fill, args=(on.mqtt_port, contender.packets)).start()
    else:
        await _session(client_id, on.mqtt_port, lambda client: client.subscribe(Subscription("iot/v1/+/+/packet", qos=1)))
        _fill(on.mqtt_port, contender.packets)
    broker_pid = on.mosquitto.pid if on.mosquitto is not None else None
    # The stock handler is connected before there is anything to drain.
    has_begun = (lambda: False) if live else (lambda: somebody_is_connected(on.mqtt_port))
    drained = await drain(contender, on, environment, broker_pid, has_begun)
    await _session(client_id, on.mqtt_port, lambda _: None, end=True)
    return drained


def worker_environment(on: Stack, **settings: object) -> dict[str, str]:
    """The settings of a worker whose speed is measured."""
    wanted = {"database_url": on.database_url, "auth": "off", "http_port": 0, "log_level": "ERROR", **settings}
    return {f"DEPOTGRID_{name.upper()}": str(value) for name, value in wanted.items()}


def _fill(port: int, packets: int) -> None:
    start = backlog.start_time()
    publisher = backlog.MqttPublisher(port)
    publisher.publish([backlog.packet(number, start) for number in range(packets)])
    publisher.close()


async def _session(client_id: str, port: int, act: Callable[[Any], object], *, end: bool = False) -> None:
    """Make a persistent session with its subscription, or end it."""
    client: Any = Client(client_id, clean_session=end, session_expiry_interval=0 if end else 3600)
    subscribed = asyncio.Event()

    def confirmed(*_: object) -> None:
        subscribed.set()

    client.on_subscribe = confirmed
    await client.connect("127.0.0.1", port)
    act(client)
    if not end:
        await subscribed.wait()
    await client.disconnect()
