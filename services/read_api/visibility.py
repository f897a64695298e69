"""Which role each path needs, and that nobody is shown what belongs to a depot that is not theirs.

One table says the role of every path; a path without a line in it is open to nobody. What a path names belongs to a depot, by its
id or by the depot of the microgrid, device, letter and so on; when that depot is not one of the caller's, the answer is the 404
of a thing that does not exist, to the letter. A path that names nothing is a list, and shows what is of the caller's depots; a
list that is not known to do so is refused to those who may not see all. What belongs to no depot is for those alone.

The look at whose a thing is costs a query, for those who see only some depots.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request

from read_api.answers import is_uuid, not_found
from read_api.backing import ACQUIRE_S, Backing
from sensor_packet.identifiers import is_identifier
from service_runtime.access import AccessRules, principal_of
from service_runtime.problem import Problem
from site_registry.documents import DOCUMENTS
from site_registry.find_depot import depot_of

ACCESS_RULES: AccessRules = {
    "GET /api/depot": "viewer",
    "GET /api/depot/{depot_id}": "viewer",
    "GET /api/depot/{depot_id}/site": "viewer",
    "GET /api/depot/{depot_id}/microgrid": "viewer",
    "GET /api/depot/{depot_id}/microgrid/structure": "viewer",
    "GET /api/depot/{depot_id}/microgrid/card": "viewer",
    "GET /api/depot/{depot_id}/microgrid/capability-status": "viewer",
    "GET /api/depot/{depot_id}/microgrid/capability-status/history": "viewer",
    "GET /api/depot/{depot_id}/remediation": "viewer",
    "GET /api/depot/{depot_id}/controller-binding": "viewer",
    "GET /api/controller-binding/{controller_binding_id}": "viewer",
    "GET /api/depot/{depot_id}/series": "viewer",
    "GET /api/microgrid/{microgrid_id}": "viewer",
    "GET /api/microgrid/{microgrid_id}/event": "viewer",
    "GET /api/microgrid/{microgrid_id}/stream": "viewer",
    "GET /api/device/{device_id}/report": "viewer",
    "GET /api/device/{device_id}/measurement": "viewer",
    "GET /api/device/{device_id}/measurement/history": "viewer",
    **dict.fromkeys((f"GET /api/{kind}" for kind in DOCUMENTS), "viewer"),
    **dict.fromkeys((f"GET /api/{kind}/{{{kind}_id}}" for kind in DOCUMENTS), "viewer"),
    "GET /api/dead-letter": "viewer",
    "GET /api/dead-letter/{dead_letter_id}": "viewer",
    "GET /api/dead-letter/replay/{job_id}": "viewer",
}

NARROWED = frozenset(
    {"/api/depot", "/api/dead-letter", "/api/dead-letter/replay/{job_id}", *(f"/api/{kind}" for kind in DOCUMENTS)}
)
"""The lists that show what is of the caller's depots only; a replay job belongs to several."""

_WHOSE = {
    "microgrid_id": ("MICROGRID", is_uuid, "SELECT depot_id FROM microgrid WHERE microgrid_id = $1::text::uuid"),
    "device_id": ("DEVICE", is_identifier, "SELECT depot_id FROM device WHERE device_id = $1"),
    "dead_letter_id": ("DEAD_LETTER", is_uuid, "SELECT depot_id FROM dead_letter WHERE dead_letter_id = $1::text::uuid"),
}


def seen_by_caller(backing: Backing) -> Callable[[Request], Awaitable[None]]:
    """A FastAPI dependency, after `Access.enforce`: raises the 404 of what the caller may not see."""

    async def visible(request: Request) -> None:
        principal = principal_of(request)
        if principal.depots is None:
            return
        template: str = request.scope["route"].path
        name, identifier = next(iter(request.path_params.items()), ("", ""))
        if name == "depot_id":
            if not principal.may_see(identifier):
                raise not_found("DEPOT", identifier)
        elif name in _WHOSE:
            kind, is_possible, whose = _WHOSE[name]
            if not is_possible(identifier):
                raise not_found(kind, identifier)
            async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
                depot_id: str | None = await connection.fetchval(whose, identifier)
            if not principal.may_see(depot_id):
                raise not_found(kind, identifier)
        elif (kind := name.removesuffix("_id")) in (*DOCUMENTS, "controller_binding"):
            async with backing.pool.acquire(timeout=ACQUIRE_S) as connection:
                depot_id = await depot_of(connection, kind, identifier)
            if not principal.may_see(depot_id):
                raise not_found(kind.upper(), identifier)
        elif template not in NARROWED:
            raise Problem(403, "FORBIDDEN", "this shows all depots, and the token is for some of them")

    return visible
