"""`sim run`: everything that one run needs, made from what the command line says, and the run itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from depot_sim.configuration import Depot
from depot_sim.evidence import EvidenceWriter
from depot_sim.http_sender import HttpSender
from depot_sim.kafka_sender import KafkaSender
from depot_sim.mischief import with_faults
from depot_sim.mqtt_sender import MqttSender
from depot_sim.pacing import Pace, Pacing
from depot_sim.play import Play, Player
from depot_sim.product import Product, ProductFault
from depot_sim.projection import missing
from depot_sim.scenario import Scenario
from depot_sim.schedule import RunIdentity, reports, wire_time
from depot_sim.sight import Sight
from depot_sim.traces import Traces

AnySender = MqttSender | KafkaSender | HttpSender


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the product is; None where nobody said. `headers` say who asks its API."""

    api_url: str
    mqtt_url: str | None
    kafka: str | None
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunWish:
    """What a run is to be like; `epoch` None is the moment at which it begins. After `patience_s` unconfirmed it gives up."""

    scenario: Scenario
    via: str
    pace: Pace
    seed: int
    epoch: datetime | None
    runs: Path
    patience_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A run that never began, and everything that stood in its way."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that began: where its evidence is, and how it ended."""

    run_id: str
    folder: Path
    status: str


def with_depot(scenario: Scenario, depot_id: str | None) -> Scenario:
    """The scenario told of another depot, where one is named."""
    return scenario if depot_id is None else replace(scenario, depot_id=depot_id)


async def look_at_depot(scenario: Scenario, product: Product) -> Depot | Refused:
    """The configuration of the scenario's depot, or everything that it lacks to carry the scenario."""
    depot = await product.depot(scenario.depot_id)
    if depot is None:
        cure = (
            f"load it, for a preset with `depotgrid sim site {scenario.name} | depotgrid site import -`, or name one with --depot"
        )
        return Refused((f"there is no depot {scenario.depot_id}; {cure}",))
    lacking = missing(scenario, depot)
    return Refused(tuple(lacking)) if lacking else depot


async def play(
    wish: RunWish, addresses: Addresses, now: Callable[[], datetime], progress: Callable[[float, int], None]
) -> Refused | Ended:
    """Play a run; what can not be carried is refused before anything is sent. ProductFault when the read API does not answer."""
    product = Product(addresses.api_url, addresses.headers)
    sender: AnySender | None = None
    try:
        depot = await look_at_depot(wish.scenario, product)
        if isinstance(depot, Refused):
            return depot
        card = await product.card(depot.depot_id)
        if card is None:
            return Refused((f"depot {depot.depot_id} has no microgrid",))
        sender = open_sender(wish.via, addresses, wish.patience_s)
        epoch = wish.epoch or now()
        identity = RunIdentity(wish.scenario.name, depot.depot_id, wish.seed, epoch)
        pacing = Pacing(wish.scenario, wish.pace)
        microgrid_id: str = card["microgrid_id"]
        if wish.epoch is None:
            newest = await product.newest_position(microgrid_id)
            start = {"after": newest} if newest is not None else {}
        else:
            start = {"from": wire_time(epoch)}
        plan = with_faults(wish.scenario, reports(wish.scenario, depot, wish.seed), wish.seed)
        speaking = frozenset(packet.device_id for packet in plan.packets)
        traces = Traces(product, microgrid_id, speaking, card["as_of"], start)
        evidence = _evidence(wish, identity, pacing, addresses, now)
        player = Player(
            Play(
                scenario=wish.scenario,
                plan=plan,
                identity=identity,
                pacing=pacing,
                devices={device.device_id: device for device in depot.devices},
                sender=sender,
                product=product,
                traces=traces,
                sight=Sight(product, depot, traces),
                evidence=evidence,
                now=now,
                keeps_epoch=wish.epoch is not None,
                progress=progress,
            )
        )
        status = await player.run()
        return Ended(evidence.folder.name, evidence.folder, status)
    finally:
        if sender is not None:
            await sender.close()
        await product.close()


def open_sender(via: str, addresses: Addresses, patience_s: float) -> AnySender:
    """A way of sending: `mqtt`, `kafka` or `http`; nothing is connected before the first packet."""
    client_id = f"depotgrid-sim-{secrets.token_hex(4)}"
    if via == "mqtt":
        return MqttSender(addresses.mqtt_url or "", client_id, patience_s=patience_s)
    if via == "kafka":
        return KafkaSender(addresses.kafka or "", client_id, patience_s=patience_s)
    return HttpSender(addresses.api_url, addresses.headers, patience_s=patience_s)


def _evidence(
    wish: RunWish, identity: RunIdentity, pacing: Pacing, addresses: Addresses, now: Callable[[], datetime]
) -> EvidenceWriter:
    began = now()
    run_id = f"{began:%Y%m%dT%H%M%S}-{identity.scenario}-{secrets.token_hex(3)}"
    return EvidenceWriter(
        wish.runs / run_id,
        {
            "run_id": run_id,
            "scenario": identity.scenario,
            "depot_id": identity.depot_id,
            "seed": identity.seed,
            "epoch": wire_time(identity.epoch),
            "via": wish.via,
            "pace": wish.pace.name,
            "api_url": addresses.api_url,
            "began_at": wire_time(began),
            "takes_s": pacing.real_s(wish.scenario.duration_s),
        },
    )


__all__ = ["Addresses", "Ended", "ProductFault", "Refused", "RunWish", "look_at_depot", "open_sender", "play", "with_depot"]
