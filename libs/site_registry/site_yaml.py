"""The dialect of YAML that site files are written in: what JSON can say, and no surprises.

Only `true`, `false`, `null` and numbers in JSON's manner are anything but text, so that a depot may be called `no`, and
`2024-01-01`, `12:30` or `010` stay the texts that they look like. A key that stands twice in one mapping is a fault, since one of
the two would be lost silently; so is a structure that contains itself. JSON is read as JSON, with the same two rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import yaml

_SCALARS = (
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:null", r"null|~|", ("n", "~", "")),
    ("tag:yaml.org,2002:int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("tag:yaml.org,2002:float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a text is no document; the detail names line and column where it can."""

    detail: str


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's way: a class has its own table

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key: object = self.construct_object(key_node, deep=True)  # pyright: ignore[reportUnknownMemberType]
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: object) -> bool:
        return True


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node))


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Only between double quotes does every kind of line break survive.
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)  # pyright: ignore[reportUnknownMemberType]


for _tag, _pattern, _first in _SCALARS:
    for _one in (_Loader, _Dumper):
        # The trailing newline that `$` would let through is text.
        _one.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))  # pyright: ignore[reportUnknownMemberType]
_Dumper.add_representer(str, _represent_text)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def read_document(text: str) -> object | Unreadable:
    """The value that a YAML or JSON text stands for."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_once)
        except _TwiceError as fault:
            return Unreadable(str(fault))
        except (ValueError, RecursionError):
            pass  # it may be YAML that begins with a brace; what is wrong, YAML will tell with its place
    try:
        document: object = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with fewer types
        json.dumps(document)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return Unreadable(f"{place}{fault.problem or fault.context}")
    except yaml.YAMLError as fault:
        return Unreadable(" ".join(str(fault).split()))
    except RecursionError:
        return Unreadable("the document is nested too deeply")
    except (ValueError, TypeError) as fault:
        return Unreadable(f"the document holds what JSON can not say: {fault}")
    return document


def write_document(document: object) -> str:
    """A document as YAML that `read_document` reads back; innermost mappings stand on one line each."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=10_000, explicit_start=False
    )


class _TwiceError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found
