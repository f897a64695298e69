"""Feature flags through OpenFeature, from a file that names each flag's value and where depots differ.

    new-microgrid-fields-load-chart:
      default: true
      depots: {depot-7: false}

A flag's value for a depot is the depot's own if the file has one, else the file's default, else the built-in default. A file
that cannot be understood is a fault at start-up, and so is a flag that nobody asks for: a slip in its name must not look like a
switch.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from openfeature import api
from openfeature.evaluation_context import EvaluationContext  # pyright: ignore[reportMissingTypeStubs] - typed in its source
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import FeatureProvider  # pyright: ignore[reportMissingTypeStubs] - typed in its source
from openfeature.provider.in_memory_provider import (  # pyright: ignore[reportMissingTypeStubs] - typed in its source
    InMemoryFlag,
    InMemoryProvider,
)

from service_runtime.settings import SettingsFault, variable

LOAD_CHART_FLAG = "new-microgrid-fields-load-chart"
BUILT_IN_DEFAULTS = {LOAD_CHART_FLAG: True}

_domains = itertools.count(1)


@dataclass(frozen=True)
class FlagRule:
    """One flag: its value, and the depots where it is another."""

    default: bool
    depots: dict[str, bool] = field(default_factory=dict[str, bool])


class FeatureFlags:
    """Answers flags per depot from an OpenFeature provider; the built-in defaults stand in when it cannot answer."""

    def __init__(self, provider: FeatureProvider) -> None:
        domain = f"depotgrid-{next(_domains)}"
        api.set_provider_and_wait(provider, domain)
        self._client = api.get_client(domain)

    def flag(self, name: str, depot_id: str) -> bool:
        """The flag's value for a depot."""
        context = EvaluationContext(targeting_key=depot_id)
        return self._client.get_boolean_value(name, BUILT_IN_DEFAULTS.get(name, False), context)


def load_flags(path: Path | None) -> FeatureFlags | SettingsFault:
    """The flags of a YAML or JSON file, or the built-in defaults when there is none; the fault when it is wrong."""
    rules = {name: FlagRule(default) for name, default in BUILT_IN_DEFAULTS.items()}
    if path is not None:
        try:
            rules |= _read(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as fault:
            return _fault(f"{path} cannot be read: {fault.strerror}")
        except yaml.YAMLError as fault:
            return _fault(f"{path} is neither YAML nor JSON: {' '.join(str(fault).split())}")
        except ValueError as fault:
            return _fault(f"{path}: {fault}")
    return FeatureFlags(InMemoryProvider({name: _in_memory(rule) for name, rule in rules.items()}))


def _fault(problem: str) -> SettingsFault:
    return SettingsFault(variable("feature_flags_file"), problem, "correct the file, or leave the setting out")


def _read(document: object) -> dict[str, FlagRule]:
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ValueError("is not a mapping of flags")
    return {str(name): _rule(str(name), rule) for name, rule in cast("dict[Any, Any]", document).items()}


def _rule(name: str, rule: object) -> FlagRule:
    if name not in BUILT_IN_DEFAULTS:
        raise ValueError(f"no flag is named {name!r}; there is {', '.join(BUILT_IN_DEFAULTS)}")
    if isinstance(rule, bool):
        return FlagRule(rule)
    if not isinstance(rule, dict):
        raise ValueError(f"{name} is neither true nor false nor a mapping")
    members = cast("dict[Any, Any]", rule)
    if unknown := sorted(str(key) for key in members if key not in ("default", "depots")):
        raise ValueError(f"{name} has the unknown member {unknown[0]!r}")
    default: object = members.get("default", BUILT_IN_DEFAULTS[name])
    depots: object = members.get("depots") or {}
    if not isinstance(default, bool) or not isinstance(depots, dict):
        raise ValueError(f"{name}: default is true or false, depots a mapping of them")
    by_depot = cast("dict[Any, Any]", depots)
    for depot_id, value in by_depot.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} for depot {depot_id} is neither true nor false")
    return FlagRule(default, {str(depot_id): value for depot_id, value in by_depot.items()})


def _in_memory(rule: FlagRule) -> InMemoryFlag[bool]:
    def answer(_flag: InMemoryFlag[bool], context: EvaluationContext) -> FlagResolutionDetails[bool]:
        own = rule.depots.get(context.targeting_key or "")
        if own is None:
            return FlagResolutionDetails(value=rule.default, reason=Reason.DEFAULT)
        return FlagResolutionDetails(value=own, reason=Reason.TARGETING_MATCH)

    return InMemoryFlag("on" if rule.default else "off", {"on": True, "off": False}, context_evaluator=answer)
