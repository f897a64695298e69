"""The embedded Mosquitto against the real binary, with the production settings."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import gmqtt  # pyright: ignore[reportMissingTypeStubs] - gmqtt ships none
import pytest
from tests.real_services.waiting import until

from operator_cli.embedded_mosquitto import EmbeddedMosquitto
from operator_cli.embedded_process import ServiceFailedError

_DAY_S = 86_400
_Client: Any = gmqtt.Client


class _Worker:
    """A client with a lasting session that notes what it gets until it has enough."""

    def __init__(self, name: str, *, enough: int) -> None:
        self.numbers: list[int] = []
        self.has_enough = asyncio.Event()
        self._enough = enough
        self._subscribed = asyncio.Event()
        self._client = _Client(name, clean_session=False, session_expiry_interval=_DAY_S)
        self._client.on_message = self._keep
        self._client.on_subscribe = self._note_subscription

    async def arrive(self, broker: EmbeddedMosquitto) -> None:
        await self._client.connect("127.0.0.1", broker.port)
        self._client.subscribe("iot/v1/+/+/packet", qos=1)
        await self._subscribed.wait()

    async def leave(self) -> None:
        await self._client.disconnect()

    def _note_subscription(self, _client: object, _mid: int, _qos: object, _properties: object) -> None:
        self._subscribed.set()

    def _keep(self, _client: object, _topic: str, payload: bytes, _qos: int, _properties: object) -> int:
        self.numbers.append(int(payload))
        if len(self.numbers) >= self._enough:
            self.has_enough.set()
        return 0


async def test_more_than_the_default_queue_waits_for_a_worker_that_is_away_over_a_restart(service_folder: Path) -> None:
    async with asyncio.timeout(120):
        with EmbeddedMosquitto(service_folder / "mq") as broker:
            away, witness = _Worker("worker", enough=1), _Worker("witness", enough=3000)
            await away.arrive(broker)
            await away.leave()
            await witness.arrive(broker)
            gateway = _Client("gateway")
            await gateway.connect("127.0.0.1", broker.port)
            for number in range(3000):
                gateway.publish("iot/v1/gw/dev/packet", str(number), qos=1)
            await witness.has_enough.wait()
            await gateway.disconnect()
            await witness.leave()
            broker.restart()
            back = _Worker("worker", enough=3000)
            await back.arrive(broker)
            await back.has_enough.wait()
            await back.leave()
    assert back.numbers == list(range(3000))


def test_a_taken_port_is_named_with_the_cure(service_folder: Path, mosquitto: EmbeddedMosquitto) -> None:
    with pytest.raises(ServiceFailedError, match=f"port {mosquitto.port} .* is taken; give --mqtt-port"):
        EmbeddedMosquitto(service_folder / "mq", port=mosquitto.port).start()


def _nothing_installed(_program: str, *, path: str) -> None:
    assert path


def test_a_broker_that_is_not_installed_is_named_with_the_cure(service_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", _nothing_installed)
    with pytest.raises(ServiceFailedError, match="apt-get install mosquitto"):
        EmbeddedMosquitto(service_folder / "mq").start()


async def test_the_store_is_written_again_and_again_while_running(service_folder: Path) -> None:
    with EmbeddedMosquitto(service_folder / "mq"):
        store = service_folder / "mq" / "store" / "mosquitto.db"
        assert "autosave_interval 1" in (service_folder / "mq" / "mosquitto.conf").read_text().splitlines()
        await until(store.exists, "it is written")
        written = store.stat().st_mtime_ns
        await until(lambda: store.stat().st_mtime_ns != written, "it is written again")


def test_after_a_kill_it_starts_again_on_the_same_port(service_folder: Path) -> None:
    with EmbeddedMosquitto(service_folder / "mq") as broker:
        before = broker.url()
        broker.kill9()
        assert not broker.running
        broker.start()
        assert broker.url() == before
