"""The variables in which a scenario describes a depot: what each may be, and what it is where nobody says.

A variable is `ASPECT.NAME`. `null` means not known, and what is not known is not reported. `auto` leaves a value to the model: the
dispatch state then follows from the power, the available capacity from the site's limit, and so on. A variable whose aspect the
scenario does not mention at all is not part of its story, and nothing is sent of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sensor_packet.catalogue import DISPATCH_STATES, POWER_STATES

Value = bool | float | str | None
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Variable:
    """What a variable may be: a flag, a number in its range, or one of some words; `fixed` ones are said at the start only."""

    default: Value = None
    flag: bool = False
    words: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    number: bool = False
    auto: bool = False
    unknown: bool = True
    fixed: bool = False

    def fault(self, value: object) -> str | None:
        """Why a value is not one of this variable's, None where it is."""
        if value is None:
            return None if self.unknown else f"can not be null; {self.meant()}"
        if value == AUTO and self.auto:
            return None
        if isinstance(value, bool):
            return None if self.flag else f"{str(value).lower()} is not possible; {self.meant()}"
        if isinstance(value, int | float):
            inside = (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
            return None if self.number and inside else f"{value:g} is not possible; {self.meant()}"
        return None if value in self.words else f"{value!r} is not possible; {self.meant()}"

    def meant(self) -> str:
        """What is possible, in words."""
        kinds = ["true or false"] if self.flag else []
        if self.number:
            bounds = [f"at least {self.least:g}"] if self.least is not None else []
            bounds += [f"at most {self.most:g}"] if self.most is not None else []
            kinds.append("a number" + (f" of {' and '.join(bounds)}" if bounds else ""))
        kinds += [", ".join(self.words)] if self.words else []
        kinds += [AUTO] if self.auto else []
        kinds += ["null"] if self.unknown else []
        return f"it is {' or '.join(kinds)}"


def _number(
    default: float | None = None,
    least: float | None = 0.0,
    most: float | None = None,
    *,
    auto: bool = False,
    unknown: bool = False,
    fixed: bool = False,
) -> Variable:
    return Variable(default, number=True, least=least, most=most, auto=auto, unknown=unknown, fixed=fixed)


VARIABLES: Mapping[str, Variable] = {
    "controller.heartbeat": Variable(flag=True),
    "controller.available_kw": _number(auto=True, unknown=True),
    "controller.fail_safe_kw": _number(unknown=True),
    "controller.peak_shaving": Variable(flag=True, auto=True),
    "controller.der": Variable(flag=True, auto=True),
    "controller.limit_der_export": Variable(flag=True, auto=True),
    "controller.export_limit_kw": _number(unknown=True),
    "controller.peak_limit_kw": _number(unknown=True),
    "controller.recharge_below_kw": _number(unknown=True),
    "controller.silent": Variable(default=False, flag=True, unknown=False),
    "battery.power_state": Variable(words=POWER_STATES),
    "battery.dispatch": Variable("auto", words=DISPATCH_STATES, auto=True),
    "battery.power_kw": _number(0.0, None),
    "battery.charge_limit_kw": _number(200.0),
    "battery.discharge_limit_kw": _number(200.0),
    "battery.soc_pct": _number(50.0, 0.0, 100.0, unknown=True, fixed=True),
    "battery.capacity_kwh": _number(600.0, 0.001, fixed=True),
    "battery.charge_efficiency": _number(0.95, 0.01, 1.0, fixed=True),
    "battery.discharge_efficiency": _number(0.95, 0.01, 1.0, fixed=True),
    "battery.min_soc_pct": _number(0.0, 0.0, 100.0, fixed=True),
    "battery.max_soc_pct": _number(100.0, 0.0, 100.0, fixed=True),
    "solar.power_state": Variable(words=POWER_STATES),
    "solar.power_kw": _number(0.0, auto=True),
    "solar.peak_kw": _number(0.0),
    "site.base_kw": _number(0.0),
    "site.chargers": _number(0.0, 0.0, 500.0, fixed=True),
    "site.charger_kw": _number(75.0, fixed=True),
    "site.bus_kwh_least": _number(120.0, fixed=True),
    "site.bus_kwh_most": _number(220.0, fixed=True),
}
"""Powers in kW, energies in kWh, states of charge in %. A battery's power is positive while it charges."""
