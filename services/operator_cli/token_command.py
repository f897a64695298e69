"""`depotgrid token`: an access token of the local issuer, for the shell."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from operator_cli.output import say
from operator_cli.places import DEFAULT_DATA_DIR, CommandFault, DataDir, UsageFault, dev_key_file, read_run_file, settings_or_fault
from operator_cli.site_commands import now
from sensor_packet.identifiers import is_identifier
from service_runtime.access import Role
from service_runtime.dev_key import DEV_PATH, DevGrant, DevKeyFault, access_token, is_dev_issuer, load_dev_key

_HOUR_S = int(timedelta(hours=1).total_seconds())
_LONGEST_S = int(timedelta(days=366).total_seconds())
_USUAL_API = "http://127.0.0.1:8080"


def token(
    *,
    role: Annotated[Role, Parameter(help="what the holder may do")],
    depot: Annotated[
        list[str] | None, Parameter(negative="", help="a depot that the holder may see, may be repeated; all when left out")
    ] = None,
    gateway: Annotated[str | None, Parameter(help="the gateway that the holder posts for, with the role device")] = None,
    ttl: Annotated[int, Parameter(help="how long it holds, in seconds", validator=Number(gte=1, lte=_LONGEST_S))] = _HOUR_S,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> int:
    """Print an access token of the local issuer, which services take that run with DEPOTGRID_AUTH=dev."""
    if role == "device" and gateway is None:
        raise UsageFault("--gateway: the role device needs the gateway that it posts for")
    for option, given in [("--depot", one) for one in depot or []] + ([("--gateway", gateway)] if gateway is not None else []):
        if not is_identifier(given):
            raise UsageFault(f"{option}: {given!r} is no identifier; give 1 to 64 of A-Z a-z 0-9 . _ : -")
    settings = settings_or_fault()
    run = read_run_file(data_dir)
    issuer = f"{(settings.api_url or (run.api_url if run else _USUAL_API)).rstrip('/')}{DEV_PATH}"
    if not is_dev_issuer(issuer):
        raise UsageFault("DEPOTGRID_API_URL: is not on this machine, and no service elsewhere takes tokens of the local issuer")
    try:
        key = load_dev_key(dev_key_file(settings, data_dir))
    except DevKeyFault as fault:
        raise CommandFault(str(fault)) from fault
    grant = DevGrant(f"{role}@shell", role, depot or None, gateway)
    say(access_token(key, issuer, grant, now_s=int(now().timestamp()), ttl_s=ttl))
    return 0
