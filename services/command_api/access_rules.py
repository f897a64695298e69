"""Which role each command needs, and that nobody changes what belongs to a depot that is not theirs.

One table says the role of every path; a path without a line in it is open to nobody. A thing of another depot than the caller's is
answered as one that does not exist. A refused role leaves its row of audit: who tried is worth knowing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.requests import Request

from command_api.backing import Backing
from service_runtime.access import Access, AccessRules, Principal, principal_of
from service_runtime.problem import Problem
from site_operations.conduct import Command, note_refusal
from site_operations.ingest import printable

_THINGS = {
    "circuit": "admin",
    "charge_point": "admin",
    "connector": "admin",
    "power_source": "admin",
    "gateway": "configurator",
    "device": "configurator",
    "sensor_action": "configurator",
}

ACCESS_RULES: AccessRules = {
    "POST /api/depot": "admin",
    "PATCH /api/depot/{depot_id}": "admin",
    "DELETE /api/depot/{depot_id}": "admin",
    "PUT /api/depot/{depot_id}/site": "admin",
    "POST /api/depot/{depot_id}/microgrid": "admin",
    "POST /api/depot/{depot_id}/microgrid/resync": "admin",
    **{f"POST /api/{kind}": role for kind, role in _THINGS.items()},  # type: ignore[dict-item]
    **{f"PATCH /api/{kind}/{{{kind}_id}}": role for kind, role in _THINGS.items()},  # type: ignore[dict-item]
    **{f"DELETE /api/{kind}/{{{kind}_id}}": role for kind, role in _THINGS.items()},  # type: ignore[dict-item]
    "POST /api/depot/{depot_id}/controller-binding": "configurator",
    "PATCH /api/controller-binding/{controller_binding_id}": "configurator",
    "DELETE /api/controller-binding/{controller_binding_id}": "configurator",
    "POST /api/controller-binding/{controller_binding_id}/take-over": "configurator",
    "PUT /api/device/{device_id}/capabilities": ("configurator", "device"),
    "POST /api/depot/{depot_id}/microgrid/capability-status": ("operator", "device"),
    "POST /api/dead-letter/replay": "operator",
    "DELETE /api/dead-letter/replay/{job_id}": "operator",
    "POST /api/dead-letter/discard": "operator",
    "POST /api/packet": "device",
    "POST /api/packet/batch": "device",
}

_Credentials = Annotated[
    object, Depends(HTTPBearer(auto_error=False, scheme_name="token", bearerFormat="JWT", description="an OIDC access token"))
]


def allowed_by(access: Access, backing: Backing) -> Callable[..., Awaitable[Principal]]:
    """A FastAPI dependency for all routes: the caller, who has the role that the table asks for."""
    enforce = access.enforce(ACCESS_RULES)

    async def allowed(request: Request, credentials: _Credentials) -> Principal:
        try:
            return await enforce(request, credentials)
        except Problem as refusal:
            if refusal.status == 403:
                await _note(backing, request, refusal)
            raise

    return allowed


async def _note(backing: Backing, request: Request, refusal: Problem) -> None:
    command = Command(
        printable(principal_of(request).subject),
        request.method,
        printable(request.url.path),
        printable(request.url.query),
        b"",
        None,
        None,
    )
    # Whoever may not do it is told so, whatever becomes of the note.
    with contextlib.suppress(Exception):
        await note_refusal(backing.pool, command, refusal.status, refusal.code, backing.clock())
