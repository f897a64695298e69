"""A real Apache Kafka (KRaft, one node that is broker and controller) as a child process of ours, for tests and measurements.

The jars come from `kafka/pom.xml` through Maven, once per content of that file, into `build/kafka/`. Run as a program, this
module only fetches them: `python -m deploy.dev.embedded_kafka`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # pyright: ignore[reportMissingTypeStubs] - aiokafka ships none
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # pyright: ignore[reportMissingTypeStubs]

from operator_cli.embedded_process import (
    EmbeddedProcess,
    ServiceFailedError,
    accepts_connections,
    free_port,
    make_reachable,
    own_folder,
    port_is_free,
)

_POM = Path(__file__).parent / "kafka" / "pom.xml"
_JARS = Path(__file__).resolve().parents[2] / "build" / "kafka"
_CLUSTER_ID = "ZGVwb3RncmlkLXRlc3RzMQ"
_READY_S = 180.0
_JVM = (
    "-Xms256m",
    "-Xmx512m",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)


class EmbeddedKafka:
    """One broker with its log in `folder` on 127.0.0.1. Ports are chosen once per object and kept over restarts."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self._process = EmbeddedProcess("kafka", folder)
        self._data = own_folder(self._process.folder / "data", self._process.account)
        self.port = port or free_port()
        self._controller_port = free_port()

    @property
    def pid(self) -> int | None:
        """Process id of the broker while it runs."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the broker process lives."""
        return self._process.running

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start (formatting the log on first use) and return when clients are served; ServiceFailedError otherwise. Idempotent."""
        if self.running:
            return self
        java = shutil.which("java")
        if java is None:
            raise ServiceFailedError(
                "kafka needs a Java runtime: apt-get install openjdk-17-jre-headless, or brew install openjdk@17"
            )
        self._process.lock()
        try:
            self._process.end_leftover()
            for port in (self.port, self._controller_port):
                if not port_is_free(port):
                    raise ServiceFailedError(f"kafka: port {port} on 127.0.0.1 is taken")
            jars = fetch_jars()
            if self._process.account is not None:
                make_reachable(jars)
            base = (java, *_JVM, "-cp", f"{jars}/*")
            configuration = self._write_configuration()
            if not (self._data / "meta.properties").exists():
                self._process.run(
                    (*base, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", configuration), timeout_s=_READY_S
                )
            self._process.spawn((*base, "kafka.Kafka", configuration))
            # The broker opens its listener only after it has caught up with the controller.
            self._process.wait_until(lambda: accepts_connections(self.port), timeout_s=_READY_S)
        except BaseException:
            self._process.kill9()
            raise
        return self

    def stop(self) -> None:
        """Shut down cleanly; SIGKILL after 20 s. Idempotent."""
        self._process.stop((signal.SIGTERM, 20))

    def restart(self) -> None:
        """Stop and start on the same ports and log."""
        self.stop()
        self.start()

    def kill9(self) -> None:
        """End the broker at once, as a crash would. Idempotent."""
        self._process.kill9()

    async def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic with this many partitions; raises aiokafka's TopicAlreadyExistsError when there is one."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])
        finally:
            await admin.close()

    async def configure_topic(self, name: str, settings: Mapping[str, str]) -> None:
        """Give a topic these settings of its own and no others."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(settings))])
        finally:
            await admin.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _write_configuration(self) -> Path:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self._data),
            "num.partitions": "4",
            "auto.create.topics.enable": "true",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # A killed broker's registration keeps its successor out until this has passed.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": "16777216",
        }
        written = self._process.folder / "server.properties"
        written.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        if self._process.account is not None:
            os.chown(written, self._process.account.uid, self._process.account.gid)
        return written


def fetch_jars() -> Path:
    """The folder of the broker's jars, resolved by Maven when `pom.xml` is new; else ServiceFailedError."""
    ready = _JARS / hashlib.sha256(_POM.read_bytes()).hexdigest()[:16]
    if ready.exists():
        return ready
    maven = shutil.which("mvn")
    if maven is None:
        raise ServiceFailedError("kafka's jars need Maven once: apt-get install maven, or brew install maven")
    _JARS.mkdir(parents=True, exist_ok=True)
    fetched = Path(tempfile.mkdtemp(prefix="fetching-", dir=_JARS))
    command = [maven, "-B", "-q", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != 0:
        shutil.rmtree(fetched)
        raise ServiceFailedError(f"kafka's jars: Maven failed\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    fetched.chmod(0o755)
    try:
        fetched.rename(ready)
    except OSError:  # another process fetched the same meanwhile
        shutil.rmtree(fetched)
    return ready


if __name__ == "__main__":
    try:
        print(fetch_jars())
    except ServiceFailedError as fault:
        sys.exit(str(fault))
