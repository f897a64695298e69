"""The battery's operational mode: from what is known of the battery, and back to what a mode says of a capability.

The rule stands in `contracts/bess-operational-mode.json`, read here and by whoever else needs it. Its rows are tried in order
and the first that matches wins; an input that a row does not name may be anything. Power and dispatch state are matched as they
are, None being "unknown". An unknown flag counts as false, and then the result is attributed PARTIAL whichever row decided,
since nobody can tell that the flag played no part. A row may name the dispatch states that are no anomaly in it (a battery that
is off and yet dispatched is one). The other way round, a capability of a mode is True, False or no update at all, which is None
and never False.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sensor_packet.contract_files import read_contract

CONTRACT = "bess-operational-mode.json"


class BatteryMode(msgspec.Struct, frozen=True):
    """A mode; whether every flag was known (FULL) or not (PARTIAL); whether the inputs contradict each other; the row, 1 to 15."""

    mode: str
    attribution: Literal["FULL", "PARTIAL"]
    anomaly: bool
    row: int


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    row: int
    mode: str
    power_state: tuple[str | None, ...] | None = None
    dispatch_state: tuple[str | None, ...] | None = None
    peak_shaving: bool | None = None
    der: bool | None = None
    anomaly_unless_dispatch_state: tuple[str | None, ...] | None = None

    def matches(self, power_state: str | None, dispatch_state: str | None, peak_shaving: bool, der: bool) -> bool:
        return (
            (self.power_state is None or power_state in self.power_state)
            and (self.dispatch_state is None or dispatch_state in self.dispatch_state)
            and self.peak_shaving in (None, peak_shaving)
            and self.der in (None, der)
        )


class _Inputs(msgspec.Struct, frozen=True):
    power_state: tuple[str | None, ...]
    dispatch_state: tuple[str | None, ...]


class _Table(msgspec.Struct, frozen=True):
    modes: tuple[str, ...]
    inputs: _Inputs
    rows: tuple[_Row, ...]
    capabilities: dict[str, dict[str, bool | None]]


_TABLE = msgspec.json.decode(read_contract(CONTRACT), type=_Table)
MODES: tuple[str, ...] = _TABLE.modes


def battery_mode(power_state: str | None, dispatch: str | None, peak_shaving: bool | None, der: bool | None) -> BatteryMode:
    """Give the mode of a battery. None is "unknown"; ValueError for a power or dispatch state that does not exist."""
    if power_state not in _TABLE.inputs.power_state or dispatch not in _TABLE.inputs.dispatch_state:
        raise ValueError(f"no such power or dispatch state: {power_state!r}, {dispatch!r}")
    row = next(row for row in _TABLE.rows if row.matches(power_state, dispatch, peak_shaving is True, der is True))
    expected = row.anomaly_unless_dispatch_state
    return BatteryMode(
        mode=row.mode,
        attribution="PARTIAL" if peak_shaving is None or der is None else "FULL",
        anomaly=expected is not None and dispatch not in expected,
        row=row.row,
    )


def capability_from_mode(mode: str, capability: str) -> bool | None:
    """Tell what a mode says of "PEAK_SHAVING" or "DER": True (on), False (off) or None (no update). KeyError for unknown names."""
    return _TABLE.capabilities[mode][capability]
