"""The demo's gateway as a process: settings in, a packet of every device each second out, until a signal."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta

import structlog

from depot_sim.gateway import Devices, Gateway, packets, site_states
from service_runtime.logs import configure_logging
from service_runtime.settings import Need, Settings, load_settings

log = structlog.get_logger("depot_sim")

_SECOND = timedelta(seconds=1)


def run() -> int:
    """Play the demo depot's gateways; 0 after a signal, 2 for wrong settings."""
    parser = argparse.ArgumentParser(prog="depot_sim", description="Play the gateways of the demo depot over MQTT.")
    parser.add_argument("--seed", type=int, default=1, help="the same seed tells the same story (default 1)")
    given = parser.parse_args()
    settings = load_settings(need=(Need.MQTT,))
    if not isinstance(settings, Settings):
        for fault in settings:
            sys.stderr.write(f"depot_sim: {fault.line()}\n")
        return 2
    configure_logging("depotgrid-sim", level=settings.log_level, style=settings.log_format)
    return asyncio.run(_play(settings.mqtt_url or "", given.seed))


async def _play(url: str, seed: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gateway = Gateway(url, "depotgrid-demo-gateway")
    speaking = asyncio.create_task(gateway.run())
    speaking.add_done_callback(lambda _: stop.set())
    states = site_states(seed)
    try:
        due = _now()
        while not stop.is_set():
            for packet in packets(states(), Devices(), seed, due):
                gateway.offer(packet)
            due += _SECOND
            # After a pause of the whole machine the story goes on from here and does not rush after the clock.
            due = max(due, _now())
            try:
                async with asyncio.timeout((due - _now()).total_seconds()):
                    await stop.wait()
            except TimeoutError:
                continue
    finally:
        speaking.cancel()
        (ended,) = await asyncio.gather(speaking, return_exceptions=True)
        log.info("gateway left", confirmed=gateway.confirmed, kept=gateway.waiting)
    if isinstance(ended, asyncio.CancelledError):
        return 0
    log.critical("the gateway died", exc_info=ended)
    return 1


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - a gateway owns its clock
