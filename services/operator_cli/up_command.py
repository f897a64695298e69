"""`depotgrid up`: everything on this machine in one foreground command."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from operator_cli.embedded_process import ServiceFailedError
from operator_cli.output import say
from operator_cli.places import DEFAULT_DATA_DIR, CommandFault, UsageFault, settings_or_fault
from operator_cli.up import Stack, UpOptions

_COLOURS = {"ingest": 36, "bridge": 36, "relay": 31, "read-api": 32, "command-api": 33, "front": 34, "gateway": 35}


def up(
    *,
    port: Annotated[
        int | None, Parameter(help="HTTP port, 0 for any free one; default 8080", validator=Number(gte=0, lte=65_535))
    ] = None,
    data_dir: Annotated[Path, Parameter(help="holds all state")] = DEFAULT_DATA_DIR,
    mqtt_port: Annotated[int, Parameter(help="port of the embedded broker", validator=Number(gte=1, lte=65_535))] = 1883,
    demo: Annotated[bool, Parameter(negative="", help="load a depot and play its gateways")] = False,
    database_url: Annotated[str | None, Parameter(help="a PostgreSQL of yours instead of the embedded one")] = None,
    mqtt_url: Annotated[str | None, Parameter(help="a broker of yours instead of the embedded one")] = None,
    kafka: Annotated[str | None, Parameter(help="Kafka brokers of yours, host:port,…; there is no embedded one")] = None,
    bridge: Annotated[bool, Parameter(negative="", help="take packets from MQTT over Kafka; needs --kafka")] = False,
) -> int:
    """Run everything on this machine until Ctrl-C: what is not given is embedded and listens on loopback only."""
    # On loopback nobody but this machine can come in, so that no identity provider is asked for unless somebody does.
    auth = None if os.environ.get("DEPOTGRID_AUTH") else "off"
    settings = settings_or_fault(
        database_url=database_url,
        mqtt_url=mqtt_url,
        kafka_bootstrap_servers=kafka,
        http_port=port,
        auth=auth,
        http_host="127.0.0.1",
    )
    if bridge and settings.kafka_bootstrap_servers is None:
        raise UsageFault("--bridge: there is no Kafka to take packets to; give --kafka host:9092")
    try:
        asyncio.run(_run(UpOptions(settings, data_dir, mqtt_port, demo, bridge)))
    except ServiceFailedError as fault:
        raise CommandFault(str(fault)) from fault
    return 0


async def _run(options: UpOptions) -> None:
    await Stack(options, say, _pass_on).run()


def _pass_on(service: str, line: str) -> None:
    # On a terminal a person wants to know who speaks; in a pipe each line is JSON and says so itself.
    if not sys.stderr.isatty():
        sys.stderr.write(f"{line}\n")
    else:
        sys.stderr.write(f"\x1b[{_COLOURS.get(service, 33)}m{service:>9}\x1b[0m │ {line}\n")
    sys.stderr.flush()
