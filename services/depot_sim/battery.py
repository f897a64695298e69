"""A battery as its meter sees it: state of charge from power and energy, within its limits.

Power is measured at the meter, in kW, positive while charging. Charging stores `charge_efficiency` of what comes in;
discharging takes 1/`discharge_efficiency` of what goes out from the store. Over a step the power is what is asked for, cut to
the limit of its direction and to what exactly fills or empties the usable part of the store by the step's end. A battery that
is not ON has no power. A battery that stands outside its usable part only moves back towards it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_NOTHING_KW = 1e-6
"""What a full or empty battery still takes or gives by rounding."""


@dataclass(frozen=True, slots=True)
class Battery:
    """Capacity and content in kWh, its usable part in %, efficiencies between 0 and 1."""

    capacity_kwh: float
    energy_kwh: float
    charge_efficiency: float = 1.0
    discharge_efficiency: float = 1.0
    min_soc_pct: float = 0.0
    max_soc_pct: float = 100.0

    @property
    def soc_pct(self) -> float:
        """How full it is, 0 to 100."""
        return min(100.0, max(0.0, self.energy_kwh / self.capacity_kwh * 100))

    def possible_kw(self, asked_kw: float, hours: float, charge_limit_kw: float, discharge_limit_kw: float) -> float:
        """The power that it can have over that time where `asked_kw` is asked for."""
        if asked_kw > 0:
            room_kwh = max(0.0, self.capacity_kwh * self.max_soc_pct / 100 - self.energy_kwh)
            power_kw = min(asked_kw, charge_limit_kw, room_kwh / self.charge_efficiency / hours)
        else:
            left_kwh = max(0.0, self.energy_kwh - self.capacity_kwh * self.min_soc_pct / 100)
            power_kw = -min(-asked_kw, discharge_limit_kw, left_kwh * self.discharge_efficiency / hours)
        return power_kw if abs(power_kw) > _NOTHING_KW else 0.0

    def after(self, power_kw: float, hours: float) -> Battery:
        """The battery after it had a power for that time; the power is one that `possible_kw` gave."""
        stored_kw = power_kw * self.charge_efficiency if power_kw > 0 else power_kw / self.discharge_efficiency
        return replace(self, energy_kwh=min(self.capacity_kwh, max(0.0, self.energy_kwh + stored_kw * hours)))
