"""How a service runs as a process: settings in, signals to a stop, an exit status out.

The first SIGTERM or SIGINT asks the service to stop; a second one leaves at once with status 1. A service that has not stopped
within 5 s of the first one, whatever it waits for, is left with status 1 and a line that says so: a database that has died without
a word may keep a closing connection waiting for minutes, and no supervisor should have to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Collection

import uvloop

from service_runtime.health import ListenError
from service_runtime.logs import configure_logging
from service_runtime.settings import Need, Settings, load_settings
from service_runtime.tracing import configure_tracing

LATEST_STOP_S = 4.9
"""How long a service may take to stop, in seconds: five, with what it takes to leave."""

Serve = Callable[[Settings, asyncio.Event], Awaitable[None]]
"""Serves until the event is set."""


class StartFault(Exception):
    """The process can not start; the message is the one line that says why and what to do."""


def run_process(name: str, service: str, serve: Serve, *, need: Collection[Need], faults: tuple[type[Exception], ...] = ()) -> int:
    """Run until a signal: 0, 1 with one line when the start fails, 2 for wrong settings.

    `name` is what a person started (`read-api`), `service` what its logs and traces are called; `faults` are errors besides
    `StartFault` and `ListenError` whose message is such a line.
    """

    def say(line: str) -> None:
        sys.stderr.write(f"depotgrid {name}: {line}\n")
        sys.stderr.flush()

    settings = load_settings(need=need)
    if not isinstance(settings, Settings):
        for fault in settings:
            say(fault.line())
        return 2
    configure_logging(service, level=settings.log_level, style=settings.log_format)
    configure_tracing(service)
    try:
        uvloop.run(_until_signal(settings, serve, say))
    except (StartFault, ListenError, *faults) as fault:
        say(str(fault) or type(fault).__name__)
        return 1
    return 0


def leave_in_time(say: Callable[[str], None]) -> None:
    """Leave with status 1 and a line, unless the process has ended by itself within `LATEST_STOP_S` from now."""

    def leave() -> None:
        say(f"did not stop within {LATEST_STOP_S:g} s of the signal, and is left as it is")
        os._exit(1)

    # A thread, since what keeps the process may be the end of the event loop itself.
    watch = threading.Timer(LATEST_STOP_S, leave)
    watch.daemon = True
    watch.start()


async def _until_signal(settings: Settings, serve: Serve, say: Callable[[str], None]) -> None:
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()
        leave_in_time(say)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    await serve(settings, stop)
