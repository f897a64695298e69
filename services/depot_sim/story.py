"""What a depot is like at each step of a scenario.

A variable has its value from the last change at or before the moment; during a ramp it lies on the straight line from what it was
when the ramp began. From these the model makes the rest, in this order:

1. The sun: `auto` is a parabola between 6:00 and 18:00 of `solar.peak_kw`. A plant that is not ON gives nothing (one whose state is
   not told counts as ON).
2. What may be charged (`controller.available_kw` `auto`): the site's limit less its base load, plus the sun and what the
   battery could add for this step, never below 0; without a limit not known.
3. The buses, which share what may be charged where it is told (`charging_buses`).
4. The battery. With a limit (`controller.peak_limit_kw`) it covers what the site draws above it, and charges from what is left
   below `controller.recharge_below_kw`. Without one it does as `battery.power_kw` says. Its own limits cut both (`battery`).
5. The export limit (`controller.export_limit_kw`): the sun's power is cut to what keeps the site from exporting more.
6. Flags left to the model: peak shaving is on while the battery works for the limit, DER while the sun gives power or the battery
   does for another reason, limiting while the sun is being cut.

The power at a step is what flows from it to the next one; states of charge and counters are those at the step itself. Numbers are
rounded to three decimals where they leave the model, so that every machine writes the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from depot_sim.battery import Battery
from depot_sim.charging_buses import ChargingBuses
from depot_sim.scenario import Change, Scenario
from depot_sim.state_variables import AUTO, VARIABLES, Value

_SUNRISE_H, _NOON_H, _SUNSET_H = 6.0, 12.0, 18.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A step of the story: its number, its time in s, and the state by name (None: not known, or not part of the story)."""

    step: int
    at_s: float
    state: Mapping[str, Value]


class _Values:
    """The scenario's own variables at any time."""

    def __init__(self, scenario: Scenario) -> None:
        self._initial = scenario.initial
        self._changes: dict[str, list[Change]] = {}
        for change in scenario.changes:
            self._changes.setdefault(change.variable, []).append(change)

    def at(self, variable: str, at_s: float) -> Value:
        value = self._initial.get(variable, VARIABLES[variable].default)
        running: Change | None = None
        for change in self._changes.get(variable, ()):
            if change.at_s > at_s:
                break
            if running is not None:
                value = _on_the_way(running, value, change.at_s)
            running = change
        return value if running is None else _on_the_way(running, value, at_s)


def _on_the_way(change: Change, before: Value, at_s: float) -> Value:
    if change.over_s == 0 or at_s >= change.at_s + change.over_s:
        return change.value
    start, end = _kw(before), _kw(change.value)
    return start + (end - start) * (at_s - change.at_s) / change.over_s


def moments(scenario: Scenario, seed: int) -> Iterator[Moment]:
    """Every step from 0 to the end, in order; the same scenario and seed give the same, on every machine."""
    model = _Model(scenario, seed)
    for step in range(scenario.steps + 1):
        at_s = round(step * scenario.step_s, 6)
        yield Moment(step, at_s, model.advance(at_s))


class _Model:
    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._values = _Values(scenario)
        self._hours = scenario.step_s / 3600
        start = scenario.start
        self._start_h = start.hour + start.minute / 60 + start.second / 3600
        self._battery = self._first_battery()
        self._buses = ChargingBuses(
            seed,
            int(self._number("site.chargers", 0)),
            self._number("site.charger_kw", 0),
            self._number("site.bus_kwh_least", 0),
            self._number("site.bus_kwh_most", 0),
        )
        self._import_kwh = self._export_kwh = 0.0

    def advance(self, at_s: float) -> dict[str, Value]:
        """The state at that time; goes on to the next step."""
        hour = self._start_h + at_s / 3600
        sun_kw = self._sun_kw(at_s, hour)
        base_kw = self._number("site.base_kw", at_s)
        available_kw = self._available_kw(at_s, base_kw, sun_kw)
        chargers = self._buses.step(hour, self._hours, available_kw)
        load_kw = base_kw + sum(chargers)
        battery_kw, working = self._battery_kw(at_s, load_kw - sun_kw)
        given_kw = self._within_export_limit(at_s, load_kw + battery_kw, sun_kw)
        grid_kw = load_kw + battery_kw - given_kw
        state = {
            **self._controller(at_s, available_kw, working, battery_kw, sun_kw, given_kw),
            **self._of_battery(at_s, battery_kw),
            **self._of_site(at_s, load_kw, given_kw, grid_kw, len([power for power in chargers if power > 0])),
        }
        self._battery = self._battery.after(battery_kw, self._hours)
        self._import_kwh += max(0.0, battery_kw) * self._hours
        self._export_kwh += max(0.0, -battery_kw) * self._hours
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in state.items()}

    def _first_battery(self) -> Battery:
        capacity_kwh = self._number("battery.capacity_kwh", 0)
        soc_pct = self._values.at("battery.soc_pct", 0)
        return Battery(
            capacity_kwh,
            capacity_kwh * (50.0 if soc_pct is None else _kw(soc_pct)) / 100,
            self._number("battery.charge_efficiency", 0),
            self._number("battery.discharge_efficiency", 0),
            self._number("battery.min_soc_pct", 0),
            self._number("battery.max_soc_pct", 0),
        )

    def _sun_kw(self, at_s: float, hour: float) -> float:
        if self._values.at("solar.power_state", at_s) not in ("ON", None):
            return 0.0
        told = self._values.at("solar.power_kw", at_s)
        if told != AUTO:
            return _kw(told)
        hour %= 24
        if not _SUNRISE_H < hour < _SUNSET_H:
            return 0.0
        return self._number("solar.peak_kw", at_s) * (1 - ((hour - _NOON_H) / (_SUNSET_H - _NOON_H)) ** 2)

    def _available_kw(self, at_s: float, base_kw: float, sun_kw: float) -> float | None:
        told = self._values.at("controller.available_kw", at_s)
        if told != AUTO:
            return None if told is None else _kw(told)
        limit = self._values.at("controller.peak_limit_kw", at_s)
        if limit is None:
            return None
        return max(0.0, _kw(limit) - base_kw + sun_kw - self._possible_kw(at_s, -1e9))

    def _battery_kw(self, at_s: float, net_kw: float) -> tuple[float, bool]:
        limit = self._values.at("controller.peak_limit_kw", at_s)
        if limit is None:
            return self._possible_kw(at_s, self._number("battery.power_kw", at_s)), False
        below = self._values.at("controller.recharge_below_kw", at_s)
        asked_kw = 0.0
        if net_kw > _kw(limit):
            asked_kw = _kw(limit) - net_kw
        elif below is not None and net_kw < _kw(below):
            asked_kw = _kw(below) - net_kw
        battery_kw = self._possible_kw(at_s, asked_kw)
        return battery_kw, battery_kw != 0

    def _possible_kw(self, at_s: float, asked_kw: float) -> float:
        if self._scenario.tells_aspect("battery") and self._values.at("battery.power_state", at_s) == "ON":
            limits = self._number("battery.charge_limit_kw", at_s), self._number("battery.discharge_limit_kw", at_s)
            return self._battery.possible_kw(asked_kw, self._hours, *limits)
        return 0.0

    def _within_export_limit(self, at_s: float, drawn_kw: float, sun_kw: float) -> float:
        limit = self._values.at("controller.export_limit_kw", at_s)
        return sun_kw if limit is None else max(0.0, min(sun_kw, drawn_kw + _kw(limit)))

    def _controller(
        self, at_s: float, available_kw: float | None, working: bool, battery_kw: float, sun_kw: float, given_kw: float
    ) -> dict[str, Value]:
        told = {name: self._values.at(f"controller.{name}", at_s) for name in ("peak_shaving", "der", "limit_der_export")}
        auto = {
            "peak_shaving": working,
            "der": given_kw > 0 or (battery_kw < 0 and not working),
            "limit_der_export": given_kw < sun_kw,
        }
        return {
            "silent": self._values.at("controller.silent", at_s),
            "heartbeat": self._values.at("controller.heartbeat", at_s),
            "available_kw": available_kw,
            "fail_safe_kw": self._values.at("controller.fail_safe_kw", at_s),
            **{name: auto[name] if value == AUTO else value for name, value in told.items()},
        }

    def _of_battery(self, at_s: float, battery_kw: float) -> dict[str, Value]:
        if not self._scenario.tells_aspect("battery"):
            return {}
        dispatch = self._values.at("battery.dispatch", at_s)
        if dispatch == AUTO:
            dispatch = "CHARGING" if battery_kw > 0 else "DISCHARGING" if battery_kw < 0 else "IDLE"
        known = self._scenario.initial.get("battery.soc_pct", 0.0) is not None
        return {
            "battery_power_state": self._values.at("battery.power_state", at_s),
            "dispatch": dispatch,
            "battery_kw": battery_kw,
            "soc_pct": self._battery.soc_pct if known else None,
            "energy_kwh": self._battery.energy_kwh,
            "import_kwh": self._import_kwh,
            "export_kwh": self._export_kwh,
        }

    def _of_site(self, at_s: float, load_kw: float, sun_kw: float, grid_kw: float, charging: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        if self._scenario.tells_aspect("solar"):
            found |= {"solar_power_state": self._values.at("solar.power_state", at_s), "solar_kw": 0.0 - sun_kw}
        if self._scenario.tells_aspect("site"):
            found |= {"load_kw": load_kw, "grid_kw": grid_kw, "charging": charging}
        return found

    def _number(self, variable: str, at_s: float) -> float:
        return _kw(self._values.at(variable, at_s))


def _kw(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
