"""The golden packets, the decoder and the JSON Schema agree."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from sensor_packet.catalogue import CATALOGUE
from sensor_packet.contract_files import list_contracts, read_contract
from sensor_packet.decode import ClaimedIdentity, decode, decode_document
from sensor_packet.packet import MAX_PACKET_BYTES, Packet, Refusal

CODES = {
    "PACKET_TOO_LARGE",
    "MALFORMED_JSON",
    "UNSUPPORTED_SCHEMA_VERSION",
    "INVALID_PACKET",
    "IDENTITY_MISMATCH",
    "INVALID_TIMESTAMP",
    "CLOCK_SKEW",
    "DUPLICATE_MEASURAND",
    "INVALID_VALUE",
    "INVALID_UNIT",
}
MEASURAND_CODES = CODES - {"PACKET_TOO_LARGE", "MALFORMED_JSON", "UNSUPPORTED_SCHEMA_VERSION", "IDENTITY_MISMATCH"}


class Recipe(msgspec.Struct, forbid_unknown_fields=True):
    prefix: str
    repeat: str
    times: int
    suffix: str


class Taken(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    normalised: bool | float | str


class Refused(msgspec.Struct, forbid_unknown_fields=True):
    pointer: str
    key: str | None
    code: str


class Golden(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    why: str
    claimed: ClaimedIdentity
    received_at: datetime
    file: str | None = None
    recipe: Recipe | None = None
    clock: str | None = None
    scope: str | None = None
    code: str | None = None
    stage: str | None = None
    pointer: str | None = None
    refused: list[Refused] = []
    accepted: list[Taken] = []
    schema_accepts: str | None = None

    def body(self) -> bytes:
        if self.recipe is not None:
            return (self.recipe.prefix + self.recipe.repeat * self.recipe.times + self.recipe.suffix).encode()
        assert self.file is not None
        return read_contract(f"packets/{self.file}")

    def verdict(self) -> Packet | Refusal:
        return decode(self.body(), received_at=self.received_at, claimed=self.claimed)


class Index(msgspec.Struct, forbid_unknown_fields=True):
    description: list[str]
    packets: list[Golden]


INDEX = msgspec.json.decode(read_contract("packets/index.json"), type=Index)
SCHEMA: dict[str, Any] = json.loads(read_contract("packet.schema.json"))
VALIDATOR: Any = Draft202012Validator(SCHEMA)  # its stubs know no document of unknown shape


def goldens(scope: str | None) -> pytest.MarkDecorator:
    chosen = [golden for golden in INDEX.packets if golden.scope == scope]
    return pytest.mark.parametrize("golden", chosen, ids=[golden.name for golden in chosen])


def parsed(body: bytes) -> object:
    """Parse what is JSON for everybody; None for the rest."""

    def integer(digits: str) -> float:
        return int(digits) if len(digits) < 300 else float(digits)

    def refuse(token: str) -> None:
        raise ValueError(token)

    try:
        return json.loads(body.decode(), parse_constant=refuse, parse_int=integer)
    except (ValueError, RecursionError):
        return None


@goldens(None)
def test_a_valid_golden_packet_is_taken_whole_with_these_values(golden: Golden) -> None:
    verdict = golden.verdict()
    assert isinstance(verdict, Packet), verdict
    assert not verdict.refused
    assert [(taken.key, taken.normalised) for taken in golden.accepted] == [(m.key, m.normalised) for m in verdict.measurands]
    assert [type(taken.normalised) for taken in golden.accepted] == [type(m.normalised) for m in verdict.measurands]


@goldens("packet")
def test_an_invalid_golden_packet_is_refused_whole_with_its_code_stage_and_pointer(golden: Golden) -> None:
    verdict = golden.verdict()
    assert isinstance(verdict, Refusal), verdict
    assert (verdict.code, verdict.stage, verdict.pointer) == (golden.code, golden.stage, golden.pointer)
    assert verdict.detail


@goldens("measurand")
def test_an_invalid_golden_measurand_is_refused_alone_with_its_code_and_its_neighbours_count(golden: Golden) -> None:
    verdict = golden.verdict()
    assert isinstance(verdict, Packet), verdict
    assert [(r.pointer, r.key, r.code) for r in verdict.refused] == [(r.pointer, r.key, r.code) for r in golden.refused]
    assert all(refused.detail for refused in verdict.refused)
    assert [(taken.key, taken.normalised) for taken in golden.accepted] == [(m.key, m.normalised) for m in verdict.measurands]
    assert golden.code == golden.refused[0].code


@pytest.mark.parametrize("golden", INDEX.packets, ids=[golden.name for golden in INDEX.packets])
def test_the_schema_accepts_exactly_the_valid_golden_packets_but_for_what_it_says_it_can_not_tell(golden: Golden) -> None:
    document = parsed(golden.body())
    if document is None:
        assert golden.code in ("MALFORMED_JSON", "PACKET_TOO_LARGE")
        return
    accepts = VALIDATOR.is_valid(document)
    assert accepts == (golden.scope is None or golden.schema_accepts is not None)


@pytest.mark.parametrize("golden", INDEX.packets, ids=[golden.name for golden in INDEX.packets])
def test_a_golden_packet_parsed_by_somebody_else_gets_the_same_verdict(golden: Golden) -> None:
    document = parsed(golden.body())
    only_the_text_tells = golden.code == "PACKET_TOO_LARGE" or golden.name == "depth-33-repeated-member"
    if document is None or only_the_text_tells:
        return
    assert decode_document(document, received_at=golden.received_at, claimed=golden.claimed) == golden.verdict()


def test_the_schema_is_a_schema() -> None:
    of_schemas: Any = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    assert not list(of_schemas.iter_errors(SCHEMA))


def test_the_index_names_every_golden_file_once() -> None:
    files = sorted(golden.file for golden in INDEX.packets if golden.file is not None)
    assert files == [name.removeprefix("packets/") for f in ("packets/invalid", "packets/valid") for name in list_contracts(f)]
    assert all((golden.file is None) != (golden.recipe is None) for golden in INDEX.packets)
    assert len({golden.name for golden in INDEX.packets}) == len(INDEX.packets)


def test_a_golden_file_lies_where_its_verdict_says() -> None:
    for golden in INDEX.packets:
        assert golden.file is None or golden.file.startswith("valid/" if golden.scope is None else "invalid/")


def test_every_code_has_a_golden_example_in_every_scope_that_it_can_have() -> None:
    assert {golden.code for golden in INDEX.packets if golden.scope == "packet"} == CODES - {
        "DUPLICATE_MEASURAND",
        "INVALID_VALUE",
        "INVALID_UNIT",
    }
    assert {refused.code for golden in INDEX.packets for refused in golden.refused} == MEASURAND_CODES


def test_a_golden_verdict_depends_on_the_receive_time_only_where_the_index_says_so() -> None:
    for golden in INDEX.packets:
        later = golden.received_at.replace(year=2027)
        moved = decode(golden.body(), received_at=later, claimed=golden.claimed)
        if "CLOCK_SKEW" in {golden.code, *(refused.code for refused in golden.refused)}:
            assert golden.clock == "fixed"
            assert moved != golden.verdict()
        elif golden.clock is None:
            assert moved == golden.verdict()


def test_golden_packets_have_different_packet_ids_so_that_all_of_them_can_be_sent_to_one_system() -> None:
    seen = [verdict.packet_id for golden in INDEX.packets if isinstance(verdict := golden.verdict(), Packet)]
    assert len(set(seen)) == len(seen)


def test_the_golden_packets_fill_the_size_limit_to_the_byte() -> None:
    sizes = {golden.name: len(golden.body()) for golden in INDEX.packets}
    assert (sizes["size-65536"], sizes["size-65537"]) == (MAX_PACKET_BYTES, MAX_PACKET_BYTES + 1)


@pytest.mark.parametrize("key", CATALOGUE)
def test_every_catalogued_key_has_a_valid_golden_example(key: str) -> None:
    assert any(taken.key == key for golden in INDEX.packets if golden.scope is None for taken in golden.accepted)


@pytest.mark.parametrize("key", [*CATALOGUE, "something_else"])
def test_the_schema_and_the_catalogue_agree_on_values_and_units(key: str) -> None:
    """Every text, bound, type and unit that one of the two names, tried on both."""
    texts = {choice for entry in CATALOGUE.values() for choice in entry.choices} | {"", "anything"}
    units = {unit for entry in CATALOGUE.values() for unit in entry.units} | {"", "A"}
    measurands: list[dict[str, object]] = []
    for value in (*texts, True, False, 0, -0.5, 100, 100.5, 1e9):
        measurands.append({"key": key, "value": value})
        measurands.extend({"key": key, "value": value, "unit": unit} for unit in units)
    claimed = ClaimedIdentity(None, None)
    for measurand in measurands:
        document = {
            "schema_version": "1.0",
            "packet_id": "p",
            "gateway_id": "gw-1",
            "device_id": "ctrl-1",
            "sent_at": "2026-11-20T21:00:00Z",
            "measurands": [measurand],
        }
        verdict = decode_document(document, received_at=INDEX.packets[0].received_at, claimed=claimed)
        assert isinstance(verdict, Packet)
        assert VALIDATOR.is_valid(document) == (not verdict.refused), measurand
