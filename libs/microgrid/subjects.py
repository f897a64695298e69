"""Names of the things that have a latest value: what an event is about.

Every report names its subject, and the latest value of a subject is its report with the greatest (observed_at, sent_at,
event_id). One name per latest value lets one index answer all of them.
"""

from __future__ import annotations


def capability_subject(microgrid_id: str, node_id: str | None, capability: str) -> str:
    """`PEAK_SHAVING` or `DER` of a whole microgrid (`node_id` None) or of the subtree under a node."""
    if node_id is None:
        return f"microgrid/{microgrid_id}/{capability}"
    return f"microgrid/{microgrid_id}/node/{node_id}/{capability}"


def power_source_state_subject(power_source_id: str) -> str:
    return f"power_source/{power_source_id}/state"


def power_source_load_subject(power_source_id: str) -> str:
    return f"power_source/{power_source_id}/load"


def circuit_capacity_subject(circuit_id: str) -> str:
    return f"circuit/{circuit_id}/capacity"


def measurement_subject(device_id: str, measurand: str) -> str:
    return f"device/{device_id}/{measurand}"
