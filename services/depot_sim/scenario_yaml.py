"""YAML as scenarios are written in: what JSON can say, and for every value the line and column at which it stands.

Only `true`, `false`, `null` and plain numbers are anything but text, so that `ON`, `OFF` and `120s` stay the words that they look
like. A key that stands twice in one mapping, a key that is not text, and an alias are faults: the first would be lost silently, the
others say nothing that plain text could not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml

Pointer = tuple[str | int, ...]
"""Where a value stands: keys and indexes from the top."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line and a column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class ScenarioFault:
    """One thing that is wrong with a scenario: where, and what, for a person. Without a place it is about the whole."""

    place: Place | None
    what: str

    def line(self, name: str) -> str:
        """As compilers say it: file, line, column, fault."""
        where = f"{name}:{self.place.line}:{self.place.column}" if self.place else name
        return f"{where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Document:
    """A value and the places of its parts; that of a mapping's member is the place of its key."""

    value: Any
    places: Mapping[Pointer, Place]

    def place(self, pointer: Sequence[str | int]) -> Place | None:
        """The place of a part, or of the nearest part around it that has one."""
        for length in range(len(pointer), -1, -1):
            if (found := self.places.get(tuple(pointer[:length]))) is not None:
                return found
        return None


def read_yaml(text: str) -> Document | list[ScenarioFault]:
    """The document that a text stands for, or every fault that keeps it from being one."""
    faults: list[ScenarioFault] = []
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)  # pyright: ignore[reportUnknownMemberType] - PyYAML's stub
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else None
        return [ScenarioFault(place, fault.problem or fault.context or "is no YAML")]
    except (yaml.YAMLError, RecursionError) as fault:
        return [ScenarioFault(None, " ".join(str(fault).split()) or "is nested too deeply")]
    if root is None:
        return [ScenarioFault(Place(1, 1), "is empty")]
    places: dict[Pointer, Place] = {(): _place(root)}
    value = _Reading(places, faults).value(root, ())
    return faults or Document(value, places)


class _Reading:
    def __init__(self, places: dict[Pointer, Place], faults: list[ScenarioFault]) -> None:
        self._places = places
        self._faults = faults
        self._seen: set[int] = set()

    def value(self, node: yaml.Node, pointer: Pointer) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._seen:
            self._faults.append(ScenarioFault(_place(node), "what stands here is used again by an alias; write it out there, too"))
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            items = cast("list[yaml.Node]", node.value)
            for index, item in enumerate(items):
                self._places[(*pointer, index)] = _place(item)
            return [self.value(item, (*pointer, index)) for index, item in enumerate(items)]
        return self._mapping(cast("yaml.MappingNode", node), pointer)

    def _mapping(self, node: yaml.MappingNode, pointer: Pointer) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key: object = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                self._faults.append(ScenarioFault(_place(key_node), "a key must be text"))
            elif key in found:
                self._faults.append(ScenarioFault(_place(key_node), f"the key {key!r} stands twice"))
            else:
                self._places[(*pointer, key)] = _place(key_node)
                found[key] = self.value(value_node, (*pointer, key))
        return found


def _scalar(node: yaml.ScalarNode) -> Any:
    text = cast("str", node.value)
    if node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)
