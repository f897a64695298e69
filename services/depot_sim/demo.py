"""The demo: the peak-shaving day told for ever, a step each second, for whatever depot it is given.

Unlike a run it expects nothing and keeps no evidence, and nothing ends it but a signal: it waits for the product to come up and
for the broker to come back. What is configured is read again every few seconds, so that a device that a person adds begins to
speak. After a pause of the whole machine, or while nobody takes the packets, the story goes on from where it was and does not
rush after the clock.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from depot_sim.configuration import Depot
from depot_sim.mqtt_sender import MqttSender
from depot_sim.pacing import Pace, Pacing
from depot_sim.presets import preset_text
from depot_sim.product import Product, ProductFault
from depot_sim.projection import say
from depot_sim.scenario import Scenario, read_scenario
from depot_sim.schedule import Planned, RunIdentity, packet_body
from depot_sim.sending import Outgoing
from depot_sim.story import moments

log = structlog.get_logger("depot_sim.demo")

PRESET = "peak-shaving-day"
_STEP = timedelta(seconds=1)
_CONFIGURATION_S = 5.0
_RETRY_S = 0.5


class Demo:
    """Plays a depot; `run` ends only by cancellation. `confirmed` counts the packets that the broker took for somebody."""

    def __init__(self, depot_id: str, product: Product, sender: MqttSender, now: Callable[[], datetime]) -> None:
        self._depot_id = depot_id
        self._product = product
        self._sender = sender
        self._now = now
        self._depot: Depot | None = None
        self._known = asyncio.Event()
        self.confirmed = 0

    async def run(self) -> None:
        """Follow the configuration, and tell one day after the other."""
        following = asyncio.create_task(self._follow_configuration())
        telling = asyncio.create_task(self._tell_for_ever())
        try:
            await asyncio.gather(following, telling)
        finally:
            for task in (following, telling):
                task.cancel()
            await asyncio.gather(following, telling, return_exceptions=True)
            await self._sender.close()
            await self._product.close()

    async def _follow_configuration(self) -> None:
        told: str | None = None
        while True:
            try:
                depot = await self._product.depot(self._depot_id)
                why = None if depot is not None else f"there is no depot {self._depot_id}"
            except ProductFault as fault:
                depot, why = None, str(fault)
            if depot is not None:
                self._depot = depot
                self._known.set()
            if why is not None and why != told:
                log.warning("configuration not read, trying again", reason=why)
            told = why
            await asyncio.sleep(_CONFIGURATION_S if self._known.is_set() else _RETRY_S)

    async def _tell_for_ever(self) -> None:
        scenario = read_scenario(preset_text(PRESET))
        if not isinstance(scenario, Scenario):
            raise TypeError(f"the preset {PRESET} is broken: {scenario[0].what}")
        pacing = Pacing(scenario, Pace(1.0))
        await self._known.wait()
        due = self._now()
        for day in itertools.count():
            identity = RunIdentity("demo", self._depot_id, scenario.seed + day, self._now())
            reports = itertools.count()
            for moment in moments(scenario, scenario.seed + day):
                for device in self._depot.devices if self._depot is not None else ():
                    said = tuple(say(device, moment.state))
                    if said:
                        packet = Planned(next(reports), moment.step, 0.0, 0.0, device.gateway_id, device.device_id, said)
                        held_s = (due - identity.epoch).total_seconds()
                        body = packet_body(packet, identity, pacing, held_s)
                        await self._sender.send([Outgoing(packet.report, packet.topic, device.device_id, body)], self._count)
                due = max(due + _STEP, self._now())
                await asyncio.sleep(max(0.0, (due - self._now()).total_seconds()))

    def _count(self, _number: int, _code: str | None) -> None:
        self.confirmed += 1
