"""What a scenario says, read from its YAML: every fault at once, each with line and column.

First the form, by `contracts/scenario.schema.json`. Where that holds, the meaning: variables have possible values, a change lies
within the duration, a ramp leads from a number to a number, windows of real time do not overlap, an expectation asks for something
that can be asked for. A scenario of a circuit's capacity must also tell the heartbeat, and the other way round: a capacity without
one is never in force, and nobody would notice that nothing was tested.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from depot_sim.asked import Asked, is_number, read_asked
from depot_sim.scenario_yaml import Document, Pointer, ScenarioFault, read_yaml
from depot_sim.state_variables import AUTO, VARIABLES, Value
from sensor_packet.contract_files import read_contract
from sensor_packet.timestamps import parse_timestamp

CONTRACT = "scenario.schema.json"
MOST_STEPS = 20_000
_SCHEMA: Mapping[str, Any] = msgspec.json.decode(read_contract(CONTRACT))
_VALIDATOR = Draft202012Validator(_SCHEMA)
_DURATION = re.compile(r"(0|[1-9][0-9]*(?:\.[0-9]+)?|0\.[0-9]+)(ms|s|min|h)", re.ASCII)
_UNIT_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_CAPACITY, _HEARTBEAT = "controller.available_kw", "controller.heartbeat"


@dataclass(frozen=True, slots=True)
class Change:
    """From `at_s` on a variable has a value; with `over_s` it gets there on a straight line."""

    at_s: float
    variable: str
    value: Value
    over_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the story."""

    from_s: float
    to_s: float

    def holds(self, at_s: float) -> bool:
        """Whether a moment lies in it; its end does not."""
        return self.from_s <= at_s < self.to_s


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong in a window; what the numbers mean depends on the kind, see `mischief`."""

    kind: str
    window: Window
    rate: float = 1.0
    by_s: float = 0.0
    times: int = 1
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be seen once all that was sent until `at_s` has had its effect, within `within_s` of real time."""

    at_s: float
    asked: Asked
    expected: Any
    within_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story of one depot. All times are seconds of the story from its beginning; `start` is what its clocks show then."""

    name: str
    title: str
    depot_id: str
    seed: int
    start: datetime
    step_s: float
    duration_s: float
    initial: Mapping[str, Value]
    changes: tuple[Change, ...]
    real_time: tuple[Window, ...]
    faults: tuple[Fault, ...]
    expectations: tuple[Expectation, ...]

    @property
    def steps(self) -> int:
        """How many steps there are; step k is at k times `step_s`."""
        return round(self.duration_s / self.step_s)

    @property
    def told(self) -> frozenset[str]:
        """The variables that the scenario mentions."""
        return frozenset([*self.initial, *(change.variable for change in self.changes)])

    def tells_aspect(self, aspect: str) -> bool:
        """Whether an aspect such as `battery` is part of the story."""
        return any(variable.startswith(f"{aspect}.") for variable in self.told)


def read_scenario(text: str) -> Scenario | list[ScenarioFault]:
    """The scenario that a text stands for, or every fault in it in the order of their places."""
    document = read_yaml(text)
    if isinstance(document, list):
        return document
    faults = [_fault_of(document, error) for error in _errors(document.value)]
    if faults:
        return sorted(set(faults), key=_order)
    reading = _Reading(document)
    scenario = reading.scenario()
    return sorted(reading.faults, key=_order) or scenario


def seconds(text: str) -> float:
    """A duration such as `120s`, `1.5min`, `24h` or `250ms` in seconds; ValueError for anything else."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"no duration: {text!r}")
    return round(float(found[1]) * _UNIT_S[found[2]], 6)


class _Reading:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._fields: dict[str, Any] = document.value
        self.faults: list[ScenarioFault] = []

    def scenario(self) -> Scenario:
        fields = self._fields
        start = parse_timestamp(fields["start"])
        if start is None:
            self._wrong(("start",), f"{fields['start']!r} is no time with an offset, such as 2026-11-20T05:00:00+08:00")
        else:
            start = datetime.fromisoformat(fields["start"].upper())
        step_s, duration_s = seconds(fields["step"]), seconds(fields["duration"])
        if step_s <= 0 or duration_s < step_s:
            self._wrong(("step",), "the step must be longer than nothing and not longer than the duration")
            step_s = max(step_s, duration_s, 1.0)
        elif duration_s / step_s > MOST_STEPS:
            self._wrong(("step",), f"{duration_s / step_s:.0f} steps are too many; at most {MOST_STEPS} are possible")
        elif abs(duration_s / step_s - round(duration_s / step_s)) > 1e-9:
            self._wrong(("duration",), "the duration is not a whole number of steps")
        scenario = Scenario(
            name=fields["scenario"],
            title=fields["title"],
            depot_id=fields["depot"],
            seed=fields["seed"],
            start=start or datetime.min,  # noqa: DTZ901 - never used: the fault above is told instead
            step_s=step_s,
            duration_s=duration_s,
            initial=self._initial(),
            changes=tuple(self._changes(duration_s)),
            real_time=tuple(self._windows("real_time", duration_s)),
            faults=tuple(self._faults(duration_s)),
            expectations=tuple(self._expectations(duration_s)),
        )
        self._check_ramps(scenario)
        self._check_capacity(scenario)
        return scenario

    def _initial(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for aspect, values in self._fields.get("initial", {}).items():
            for name, value in values.items():
                self._check_value(f"{aspect}.{name}", value, ("initial", aspect, name))
                found[f"{aspect}.{name}"] = value
        return found

    def _changes(self, duration_s: float) -> list[Change]:
        found: list[Change] = []
        for index, entry in enumerate(self._fields.get("timeline", ())):
            at_s = self._moment(entry["at"], duration_s, ("timeline", index, "at"))
            over_s = seconds(entry["over"]) if "over" in entry else 0.0
            for variable, value in entry.items():
                if variable in ("at", "over"):
                    continue
                self._check_value(variable, value, ("timeline", index, variable))
                if VARIABLES[variable].fixed:
                    self._wrong(("timeline", index, variable), f"{variable} is said at the start only, under initial")
                if over_s and not is_number(value):
                    self._wrong(("timeline", index, variable), "a ramp (over) leads to a number")
                found.append(Change(at_s, variable, value, over_s))
        return sorted(found, key=lambda change: change.at_s)

    def _windows(self, name: str, duration_s: float) -> list[Window]:
        found: list[Window] = []
        for index, entry in enumerate(self._fields.get(name, ())):
            window = self._window(entry, duration_s, (name, index))
            if found and window.from_s < found[-1].to_s:
                self._wrong((name, index), "begins before the one above it has ended")
            found.append(window)
        return found

    def _faults(self, duration_s: float) -> list[Fault]:
        return [
            Fault(
                kind=entry["kind"],
                window=self._window(entry, duration_s, ("faults", index)),
                rate=float(entry.get("rate", 1.0)),
                by_s=_signed_seconds(entry["by"]) if "by" in entry else 0.0,
                times=entry.get("times", 1),
                codes=tuple(entry.get("codes", ())),
            )
            for index, entry in enumerate(self._fields.get("faults", ()))
        ]

    def _expectations(self, duration_s: float) -> list[Expectation]:
        found: list[Expectation] = []
        for index, entry in enumerate(self._fields.get("expectations", ())):
            at_s = self._moment(entry["at"], duration_s, ("expectations", index, "at"))
            within_s = seconds(entry.get("within", "10s"))
            for path, expected in entry.items():
                if path in ("at", "within"):
                    continue
                asked = read_asked(path)
                if isinstance(asked, str):
                    self._wrong(("expectations", index, path), asked)
                else:
                    found.append(Expectation(at_s, asked, expected, within_s))
        return sorted(found, key=lambda expectation: expectation.at_s)

    def _window(self, entry: Mapping[str, Any], duration_s: float, pointer: Pointer) -> Window:
        from_s = self._moment(entry.get("from", "0s"), duration_s, (*pointer, "from"))
        to_s = self._moment(entry["to"], duration_s, (*pointer, "to")) if "to" in entry else duration_s
        if to_s <= from_s:
            self._wrong(pointer, "ends before it begins")
        return Window(from_s, to_s)

    def _moment(self, text: str, duration_s: float, pointer: Pointer) -> float:
        at_s = seconds(text)
        if at_s > duration_s:
            self._wrong(pointer, f"{text} lies behind the end at {self._fields['duration']}")
        return at_s

    def _check_value(self, variable: str, value: object, pointer: Pointer) -> None:
        if (why := VARIABLES[variable].fault(value)) is not None:
            self._wrong(pointer, f"{variable}: {why}")

    def _check_ramps(self, scenario: Scenario) -> None:
        for index, entry in enumerate(self._fields.get("timeline", ())):
            for variable in entry if "over" in entry else ():
                if variable in ("at", "over"):
                    continue
                at_s = seconds(entry["at"])
                before = [one.value for one in scenario.changes if one.variable == variable and one.at_s < at_s]
                start = before[-1] if before else scenario.initial.get(variable, VARIABLES[variable].default)
                if not is_number(start):
                    shown = AUTO if start == AUTO else "null" if start is None else start
                    self._wrong(("timeline", index, variable), f"a ramp leads from a number, and {variable} is {shown} before")

    def _check_capacity(self, scenario: Scenario) -> None:
        asks = [one for one in scenario.expectations if one.asked.root == "circuit"]
        for wanted, other in ((_CAPACITY, _HEARTBEAT), (_HEARTBEAT, _CAPACITY)):
            if wanted not in scenario.told and (other in scenario.told or asks):
                because = f"{other} is told" if other in scenario.told else f"{asks[0].asked.path} is expected"
                self._wrong(self._pointer_of(other), f"{because}, so {wanted} must be told, too: neither counts alone")

    def _pointer_of(self, variable: str) -> Pointer:
        aspect, _, name = variable.partition(".")
        if name in self._fields.get("initial", {}).get(aspect, {}):
            return ("initial", aspect, name)
        for index, entry in enumerate(self._fields.get("timeline", ())):
            if variable in entry:
                return ("timeline", index, variable)
        for index, entry in enumerate(self._fields.get("expectations", ())):
            for path in entry:
                if path.startswith("circuit."):
                    return ("expectations", index, path)
        return ()

    def _wrong(self, pointer: Sequence[str | int], what: str) -> None:
        self.faults.append(ScenarioFault(self._document.place(pointer), what))


def _signed_seconds(text: str) -> float:
    return -seconds(text[1:]) if text.startswith("-") else seconds(text)


def _errors(value: Any) -> list[ValidationError]:
    found: list[ValidationError] = list(_VALIDATOR.iter_errors(value))  # pyright: ignore[reportUnknownMemberType]
    return found


def _fault_of(document: Document, error: ValidationError) -> ScenarioFault:
    pointer: list[str | int] = list(error.absolute_path)
    schema = cast("dict[str, Any]", error.schema)
    if error.validator == "additionalProperties":
        known: list[str] = sorted(schema.get("properties", {}))
        strange = [name for name in cast("dict[str, Any]", error.instance) if name not in known]
        what = f"{', '.join(map(repr, strange))}: no such field here; there are {', '.join(known)}"
        return ScenarioFault(document.place([*pointer, *strange[:1]]), what)
    place = document.place(pointer)
    if error.validator == "required":
        wanted = cast("list[str]", error.validator_value)
        lacking = [name for name in wanted if name not in cast("dict[str, Any]", error.instance)]
        return ScenarioFault(place, f"lacks {', '.join(lacking)}")
    if error.validator == "pattern":
        return ScenarioFault(place, f"{error.instance!r}: {schema.get('description', 'has not the right form')}")
    return ScenarioFault(place, error.message)


def _order(fault: ScenarioFault) -> tuple[int, int, str]:
    return (fault.place.line, fault.place.column, fault.what) if fault.place else (0, 0, fault.what)
