"""For each operation of both APIs a request that is carried out, on the depot of `http_stack`.

An operation that only reads needs no line where the ids in its path and its required parameters are known below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from tests.contracts.http_promises import APIS, described
from tests.contracts.http_stack import Stack

_numbers = count(1)


@dataclass(frozen=True)
class Request:
    """Ids in the path besides those that the stack knows, parameters of the query, the body (None for none), headers."""

    ids: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def _creation(kind: str, /, **body: Any) -> Callable[[Stack], Request]:
    def make(_: Stack) -> Request:
        return Request(body={f"{kind}_id": f"new-{next(_numbers)}", **body})

    return make


_CREATIONS: dict[str, Callable[[Stack], Request]] = {
    "circuit": _creation("circuit", depot_id="depot-1", parent_circuit_id="gc-1", name="New"),
    "charge_point": _creation("charge_point", circuit_id="k-1", name="New", max_kw=50),
    "connector": _creation("connector", charge_point_id="cp-1", number=2),
    "power_source": _creation("power_source", depot_id="depot-1", kind="SOLAR", name="New"),
    "gateway": _creation("gateway", depot_id="depot-1", name="New"),
    "device": _creation("device", gateway_id="gw-1"),
    "sensor_action": lambda _: Request(
        body={"device_id": "ctrl-1", "measurand": f"NEW_{next(_numbers)}", "action": "RECORD_MEASUREMENT"}
    ),
}
_CHANGES: dict[str, dict[str, Any]] = {
    "circuit": {"name": "Changed", "rating_kw": 170},
    "charge_point": {"name": "Changed"},
    "connector": {"max_kw": None},
    "power_source": {"rated_kw": 200},
    "gateway": {"name": "Changed"},
    "device": {"enabled": False},
    "sensor_action": {"scale": 0.1},
}


def _deletion(kind: str) -> Callable[[Stack], Request]:
    def make(stack: Stack) -> Request:
        made = stack.http.post(f"/api/{kind}", json=_CREATIONS[kind](stack).body)
        assert made.status_code == 201, made.text
        return Request(ids={f"{kind}_id": made.json()[f"{kind}_id"]})

    return make


def _empty_depot(stack: Stack) -> Request:
    assert stack.http.delete("/api/circuit/spare-gc").status_code in (204, 404)
    return Request(ids={"depot_id": "spare"})


def _depot(_: Stack) -> Request:
    depot_id = f"new-{next(_numbers)}"
    circuits = [{"circuit_id": f"{depot_id}-gc", "name": "Grid"}]
    return Request(body={"depot_id": depot_id, "name": "New", "timezone": "UTC", "circuits": circuits})


def _status(_: Stack) -> Request:
    said = {"device_id": "ctrl-1", "observed_at": datetime.now(UTC).isoformat(), "source_event_ref": f"s-{next(_numbers)}"}
    return Request(body={"capability": "DER", "value": True, **said})


def _job(stack: Stack) -> Request:
    made = stack.http.post("/api/dead-letter/replay", json={"reason_code": "NOTHING"})
    assert made.status_code == 202, made.text
    return Request(ids={"job_id": made.json()["job_id"]})


def _own_capability(stack: Stack) -> dict[str, Any]:
    """The body of a disabled binding of a device of its own."""
    made = stack.http.post("/api/device", json=_CREATIONS["device"](stack).body)
    assert made.status_code == 201, made.text
    der = {"capability": "DER", "measurand": "DER"}
    return {"device_id": made.json()["device_id"], "enabled": False, "capabilities": [der]}


def _binding(**body: Any) -> Callable[[Stack], Request]:
    def make(stack: Stack) -> Request:
        made = stack.http.post("/api/depot/depot-1/controller-binding", json=_own_capability(stack))
        assert made.status_code == 201, made.text
        version = {"If-Match": f'"{made.json()["version"]}"'}
        return Request(ids={"controller_binding_id": made.json()["controller_binding_id"]}, body=body or None, headers=version)

    return make


GOOD: dict[str, Callable[[Stack], Request]] = {
    "GET /api/device/{device_id}/measurement/history": lambda _: Request(query={"measurand": "SOC"}),
    "GET /api/depot/{depot_id}/series": lambda _: Request(query={"measure": "load_kw,DER"}),
    "POST /api/depot": _depot,
    "PATCH /api/depot/{depot_id}": lambda _: Request(body={"name": "Changed"}),
    "DELETE /api/depot/{depot_id}": _empty_depot,
    "PUT /api/depot/{depot_id}/site": lambda stack: Request(body=stack.site),
    "POST /api/depot/{depot_id}/microgrid": lambda _: Request(),
    "POST /api/depot/{depot_id}/microgrid/resync": lambda _: Request(),
    "POST /api/depot/{depot_id}/microgrid/capability-status": _status,
    **{f"POST /api/{kind}": make for kind, make in _CREATIONS.items()},
    **{f"PATCH /api/{kind}/{{{kind}_id}}": (lambda _, body=body: Request(body=body)) for kind, body in _CHANGES.items()},
    **{f"DELETE /api/{kind}/{{{kind}_id}}": _deletion(kind) for kind in _CREATIONS},
    "POST /api/depot/{depot_id}/controller-binding": lambda stack: Request(body=_own_capability(stack)),
    "GET /api/controller-binding/{controller_binding_id}": _binding(),
    "PATCH /api/controller-binding/{controller_binding_id}": _binding(stale_after_s=60),
    "DELETE /api/controller-binding/{controller_binding_id}": _binding(),
    "POST /api/controller-binding/{controller_binding_id}/take-over": _binding(expected_device_id="ctrl-1"),
    "POST /api/dead-letter/replay": lambda _: Request(body={"reason_code": "NOTHING", "dry_run": True}),
    "GET /api/dead-letter/replay/{job_id}": _job,
    "DELETE /api/dead-letter/replay/{job_id}": _job,
    "POST /api/dead-letter/discard": lambda _: Request(body={"reason_code": "NOTHING", "why": "none of it is needed"}),
    "PUT /api/device/{device_id}/capabilities": lambda _: Request(body={"measurands": [{"key": "SOC", "type": "number"}]}),
    "POST /api/packet": lambda stack: Request(body=stack.packet(f"p-{next(_numbers)}")),
    "POST /api/packet/batch": lambda stack: Request(body=[stack.packet(f"p-{next(_numbers)}")]),
}

OPERATIONS = sorted(
    f"{method.upper()} {path}" for api in APIS for path, operations in described(api)["paths"].items() for method in operations
)


def good_request(operation: str, stack: Stack) -> Request:
    """A request that is carried out; fails where nobody has said one."""
    if operation in GOOD:
        return GOOD[operation](stack)
    assert operation.startswith("GET "), f"say in GOOD of {__name__} a request of {operation} that is carried out"
    return Request()


def path_of(operation: str, ids: Mapping[str, str]) -> str:
    """The path of an operation with ids in it; fails where one is not known."""
    template = operation.partition(" ")[2]
    try:
        return template.format(**ids)
    except KeyError as unknown:
        raise AssertionError(f"put {unknown} of something that is there into Stack.ids for {operation}") from None
