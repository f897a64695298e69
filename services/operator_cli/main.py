"""The `depotgrid` command: which commands there are, and what becomes of their outcome.

Exit status: 0 done, 1 failed, 2 wrong usage or wrong settings. A fault is one clear line on standard error that names the place
and the cure. A command is loaded when it is called, so that none waits for what only others need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError

from event_store.database import DatabaseFault
from operator_cli.output import complain
from operator_cli.places import CommandFault, UsageFault

DONE, FAILED, WRONG_USAGE = 0, 1, 2
_INTERRUPTED = 130

app = App(
    name="depotgrid",
    help="Microgrid controller of electric-bus depots. Settings are environment variables, see `depotgrid config`.",
    version_flags=[],
    help_format="plaintext",
)
app.command("operator_cli.up_command:up", name="up", help="Run everything on this machine until Ctrl-C.")
app.command("operator_cli.site_commands:app", name="site", help="Load a depot from a file, and write it back.")
app.command("operator_cli.microgrid_commands:app", name="microgrid", help="Provision what lacks its microgrid, and repair drift.")
app.command("operator_cli.database_commands:app", name="db", help="Bring the database to this version, and compare the two.")
app.command("operator_cli.dead_letter_commands:app", name="dead-letter", help="What could not be taken, and why.")
app.command("operator_cli.token_command:token", name="token", help="Print an access token for development.")
app.command("operator_cli.balance:app", name="balance", help="Ask the load balancer about a site in a file.")
app.command("operator_cli.sim_commands:app", name="sim", help="Play a depot's devices by a scenario, and keep evidence.")
app.command("operator_cli.pages_command:pages", name="pages", help="Write the web pages for a web server of yours.")
app.command("operator_cli.config_command:config", name="config", help="Show every setting, its value, source and meaning.")


@app.command
def ingest() -> NoReturn:
    """Run one ingest worker: packets from MQTT, Kafka or both into the database."""
    _become("ingest_worker")


@app.command
def bridge() -> NoReturn:
    """Run one bridge: packets from MQTT to Kafka, for any number of workers behind it."""
    _become("mqtt_bridge")


@app.command
def relay() -> NoReturn:
    """Run one relay: events and dead letters out of the database to MQTT, Kafka or both."""
    _become("event_relay")


@app.command
def read_api() -> NoReturn:
    """Run one read API."""
    _become("read_api")


@app.command
def command_api() -> NoReturn:
    """Run one command API."""
    _become("command_api")


def _become(module: str) -> NoReturn:
    # The service takes this process over, so that signals reach it and nothing of the command stays in memory.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606 - our own interpreter, no shell


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; gives back the exit status."""
    try:
        status = app(
            sys.argv[1:] if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as fault:
        complain(f"{' '.join(str(fault).split())} See `depotgrid --help`.")
        return WRONG_USAGE
    except UsageFault as fault:
        complain(str(fault))
        return WRONG_USAGE
    except (CommandFault, DatabaseFault) as fault:
        complain(str(fault))
        return FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone; nothing is left to say, also not at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status if isinstance(status, int) else DONE
