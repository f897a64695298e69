"""The two ways through the decoder have one verdict, and no body is too odd for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from tests.sensor_packet.odd_spellings import (
    FAULTLESS,
    HEADING,
    MEASURAND_MEMBERS,
    SPELLED,
    damaged_texts,
    packet_texts,
    spelled,
    written,
)

from sensor_packet.decode import ClaimedIdentity, decode, decode_document, decode_exactly, decode_quickly
from sensor_packet.packet import Measurand, Packet, Refusal, RefusedMeasurand

NOW = datetime(2026, 11, 20, 21, 0, 1, tzinfo=UTC)
ME = ClaimedIdentity("gw-1", "ctrl-1")
PLAIN: dict[str, object] = {
    "schema_version": "1.0",
    "packet_id": "p-1",
    "gateway_id": "gw-1",
    "device_id": "ctrl-1",
    "sent_at": "2026-11-20T21:00:00.250Z",
    "measurands": [
        {"key": "PEAK_SHAVING", "value": True},
        {"key": "SOC", "value": 74.5, "unit": "%", "observed_at": "2026-11-20T20:59:58Z", "quality": "UNCERTAIN"},
        {"key": "ACTIVE_POWER", "value": -120500, "unit": "W"},
        {"key": "DEVICE_POWER_STATE", "value": False},
        {"key": "label", "value": "x", "unit": "any"},
    ],
}


def body_of(**members: object) -> bytes:
    return json.dumps({**PLAIN, **members}).encode()


def packet(body: bytes, claimed: ClaimedIdentity = ME) -> Packet:
    verdict = decode(body, received_at=NOW, claimed=claimed)
    assert isinstance(verdict, Packet), verdict
    return verdict


def refusal(body: bytes, claimed: ClaimedIdentity = ME) -> Refusal:
    verdict = decode(body, received_at=NOW, claimed=claimed)
    assert isinstance(verdict, Refusal), verdict
    return verdict


def quickly(body: bytes, claimed: ClaimedIdentity = ME) -> Packet | None:
    return decode_quickly(body, received_at=NOW, claimed=claimed, max_ahead_s=300.0)


def exactly(body: bytes, claimed: ClaimedIdentity = ME) -> Packet | Refusal:
    return decode_exactly(body, received_at=NOW, claimed=claimed, max_ahead_s=300.0)


def test_a_packet_is_read_with_values_as_sent_and_normalised() -> None:
    sent_at = datetime(2026, 11, 20, 21, 0, 0, 250000, tzinfo=UTC)
    assert packet(body_of()) == Packet(
        packet_id="p-1",
        gateway_id="gw-1",
        device_id="ctrl-1",
        sent_at=sent_at,
        measurands=(
            Measurand(0, "PEAK_SHAVING", True, True, None, sent_at, "GOOD"),
            Measurand(1, "SOC", 74.5, 74.5, "%", datetime(2026, 11, 20, 20, 59, 58, tzinfo=UTC), "UNCERTAIN"),
            Measurand(2, "ACTIVE_POWER", -120500, -120.5, "W", sent_at, "GOOD"),
            Measurand(3, "DEVICE_POWER_STATE", False, "OFF", None, sent_at, "GOOD"),
            Measurand(4, "label", "x", "x", "any", sent_at, "GOOD"),
        ),
        refused=(),
    )


def test_the_common_packet_takes_the_quick_way() -> None:
    assert quickly(body_of()) == exactly(body_of())


def test_the_number_as_sent_keeps_its_kind_and_the_normalised_one_is_a_float() -> None:
    (found,) = packet(body_of(measurands=[{"key": "SOC", "value": 74}])).measurands
    assert (type(found.value), type(found.normalised)) == (int, float)


def test_a_time_is_read_in_utc() -> None:
    assert packet(body_of(sent_at="2026-11-21T05:00:00+08:00")).sent_at.tzinfo is UTC


@pytest.mark.parametrize(("ahead_s", "taken"), [(0.0, 0), (60.0, 60), (300.0, 300), (86_400.0, 86_400)])
def test_the_believable_lead_of_a_sender_is_a_setting(ahead_s: float, taken: int) -> None:
    for seconds, expected in ((taken, Packet), (taken + 1, Refusal)):
        body = body_of(sent_at=(NOW + timedelta(seconds=seconds)).isoformat())
        assert isinstance(decode(body, received_at=NOW, claimed=ME, max_ahead_s=ahead_s), expected)


def test_a_measurand_beyond_the_lead_is_refused_alone() -> None:
    late = (NOW + timedelta(seconds=301)).isoformat()
    found = packet(body_of(measurands=[{"key": "SOC", "value": 1, "observed_at": late}, {"key": "DER", "value": True}]))
    assert [(r.pointer, r.code) for r in found.refused] == [("/measurands/0/observed_at", "CLOCK_SKEW")]
    assert [m.key for m in found.measurands] == ["DER"]


@pytest.mark.parametrize(
    ("claimed", "document_ids", "expected"),
    [
        (ME, {}, ("gw-1", "ctrl-1")),
        (ClaimedIdentity(None, None), {}, ("gw-1", "ctrl-1")),
        (ClaimedIdentity(None, ""), {}, ("gw-1", "ctrl-1")),
        (ClaimedIdentity("not/one", None), {"device_id": 5}, ("gw-1", None)),
        (ClaimedIdentity("gw-7", "ctrl-1"), {}, ("gw-7", "ctrl-1")),
    ],
)
def test_a_refusal_names_the_claimed_sender_and_else_what_the_packet_says(
    claimed: ClaimedIdentity, document_ids: dict[str, object], expected: tuple[str | None, str | None]
) -> None:
    found = refusal(body_of(schema_version="2.0", **document_ids), claimed)
    assert (found.gateway_id, found.device_id) == expected


def test_a_body_that_can_not_be_read_names_the_claimed_sender() -> None:
    found = refusal(b"\xff")
    assert (found.gateway_id, found.device_id) == ("gw-1", "ctrl-1")


@pytest.mark.parametrize("field", ["schema_version", "packet_id", "gateway_id", "device_id", "sent_at"])
def test_a_line_break_after_a_text_is_part_of_it(field: str) -> None:
    verdict = decode(body_of(**{field: f"{PLAIN[field]}\n"}), received_at=NOW, claimed=ME)
    assert isinstance(verdict, Packet) == (field == "packet_id")


@pytest.mark.parametrize(
    ("claimed", "code"),
    [
        (ClaimedIdentity(None, None), None),
        (ClaimedIdentity("gw-1", None), None),
        (ClaimedIdentity(None, "ctrl-1"), None),
        (ME, None),
        (ClaimedIdentity("gw-2", None), "IDENTITY_MISMATCH"),
        (ClaimedIdentity(None, "ctrl-2"), "IDENTITY_MISMATCH"),
        (ClaimedIdentity("gw-1", ""), "IDENTITY_MISMATCH"),
        (ClaimedIdentity("GW-1", "ctrl-1"), "IDENTITY_MISMATCH"),
    ],
)
def test_a_claim_must_agree_with_the_packet_and_no_claim_always_does(claimed: ClaimedIdentity, code: str | None) -> None:
    verdict = decode(body_of(), received_at=NOW, claimed=claimed)
    assert (verdict.code if isinstance(verdict, Refusal) else None) == code


@pytest.mark.parametrize("depth", [31, 32, 33, 34, 500, 5000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_a_packet_may_nest_32_deep_itself_counted(depth: int, brackets: str) -> None:
    inner = "[" * (depth - 1) + "]" * (depth - 1) if brackets == "[]" else '{"a":' * (depth - 1) + "1" + "}" * (depth - 1)
    body = body_of()[:-1] + b', "x": ' + inner.encode() + b"}"
    assert isinstance(decode(body, received_at=NOW, claimed=ME), Packet) == (depth <= 32)


def test_many_shallow_brackets_are_not_deep() -> None:
    assert packet(body_of(x=[[[1], [2]] for _ in range(2000)], y='[[["' * 100))


def test_parsed_json_nested_too_deep_is_refused_like_text() -> None:
    deep: object = 1
    for _ in range(32):
        deep = [deep]
    verdict = decode_document({**PLAIN, "x": deep}, received_at=NOW, claimed=ME)
    assert isinstance(verdict, Refusal)
    assert verdict.code == "MALFORMED_JSON"
    assert isinstance(decode_document({**PLAIN, "x": [deep][0][0]}, received_at=NOW, claimed=ME), Packet)  # type: ignore[index]


@pytest.mark.parametrize("field", [*PLAIN, "unknown"])
def test_a_long_text_is_not_repeated_in_what_is_said_of_it(field: str) -> None:
    found = refusal(body_of(**{field: "\x00" + "x" * 60_000}))
    assert len(found.pointer) + len(found.detail) < 250


def test_a_long_name_is_not_repeated_in_a_pointer() -> None:
    assert refusal(body_of(**{"x" * 60_000: "\x00"})).pointer == ""
    assert refusal(body_of(**{"a/b~c": "\x00"})).pointer == "/a~1b~0c"


# --- laws --------------------------------------------------------------------------------------------------------------------


def texts_in(verdict: Packet | Refusal) -> list[str]:
    found: list[str | None] = []
    if isinstance(verdict, Refusal):
        found += [verdict.pointer, verdict.detail, verdict.gateway_id, verdict.device_id]
    else:
        found += [verdict.packet_id, verdict.gateway_id, verdict.device_id]
        for refused in verdict.refused:
            found += [refused.key, refused.pointer, refused.detail]
        for measurand in verdict.measurands:
            found += [measurand.key, measurand.unit, measurand.value if isinstance(measurand.value, str) else None]
    return [text for text in found if text is not None]


def check_agreement(body: bytes, claimed: ClaimedIdentity = ME) -> bool:
    """Hold both ways to one result where the quick one takes a body, and tell whether it does."""
    taken = quickly(body, claimed)
    if taken is not None:
        assert repr(exactly(body, claimed)) == repr(taken)  # as text, so that 1, 1.0 and true differ, and 0.0 from -0.0
    return taken is not None


@settings(max_examples=600, deadline=None)
@given(packet_texts() | damaged_texts(), st.sampled_from([ME, ClaimedIdentity(None, None), ClaimedIdentity(None, "")]))
def test_what_the_quick_way_takes_the_exact_way_takes_with_an_equal_result(body: bytes, claimed: ClaimedIdentity) -> None:
    event(f"quick: {check_agreement(body, claimed)}")


@pytest.mark.parametrize("claimed", [ME, ClaimedIdentity(None, None)], ids=["claimed", "unclaimed"])
@pytest.mark.parametrize("place", ["heading", "measurand"])
@pytest.mark.parametrize("name", [*HEADING, *MEASURAND_MEMBERS, "measurands", "unknown"])
def test_both_ways_agree_on_every_odd_spelling_of_every_member(name: str, place: str, claimed: ClaimedIdentity) -> None:
    taken = 0
    for value in SPELLED:
        for faultless in FAULTLESS:
            for last in (True, False):  # the odd one as the only or as an earlier one of its name
                heading, item = [*HEADING.items()], [*faultless.items()]
                target = heading if place == "heading" else item
                kept = [member for member in target if not last or member[0] != name]
                target[:] = [*kept, (name, value)] if last else [(name, value), *kept]
                if not last or (place, name) != ("heading", "measurands"):
                    heading.append(("measurands", "[" + written(item) + "]"))
                taken += check_agreement(written(heading).encode("utf-8", "surrogatepass"), claimed)
    known = {"heading": [*HEADING, "measurands"], "measurand": MEASURAND_MEMBERS}[place]
    assert (taken > 0) == (name in known), "an unknown member is for the exact way only"


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200) | packet_texts() | damaged_texts())
def test_no_body_is_too_odd_and_what_is_said_of_it_can_be_stored_and_stays_short(body: bytes) -> None:
    verdict = decode(body, received_at=NOW, claimed=ME)
    for text in texts_in(verdict):
        text.encode()
        assert "\x00" not in text
    details = [verdict.detail] if isinstance(verdict, Refusal) else [refused.detail for refused in verdict.refused]
    assert all(len(detail) < 700 for detail in details)


@settings(max_examples=200, deadline=None)
@given(packet_texts())
def test_every_measurand_ends_in_exactly_one_place(body: bytes) -> None:
    verdict = decode(body, received_at=NOW, claimed=ME)
    assume(isinstance(verdict, Packet))
    assert isinstance(verdict, Packet)
    ends: list[Measurand | RefusedMeasurand] = [*verdict.measurands, *verdict.refused]
    assert sorted(end.index for end in ends) == list(range(len(json.loads(body, parse_int=len)["measurands"])))
    assert [m.index for m in verdict.measurands] == sorted(m.index for m in verdict.measurands)
    assert [r.index for r in verdict.refused] == sorted(r.index for r in verdict.refused)


@settings(max_examples=200, deadline=None)
@given(spelled, st.integers(0, 5))
def test_a_bad_measurand_changes_nothing_for_its_neighbours(value: str, place: int) -> None:
    items = [json.dumps(item) for item in PLAIN["measurands"]]  # type: ignore[attr-defined, union-attr]
    items.insert(place, f'{{"key": "FAIL_SAFE_CAPACITY", "value": {value}}}')
    body = (json.dumps({**PLAIN, "measurands": 0})[:-2] + "[" + ",".join(items) + "]}").encode("utf-8", "surrogatepass")
    verdict = decode(body, received_at=NOW, claimed=ME)
    assume(isinstance(verdict, Packet))
    assert isinstance(verdict, Packet)
    others = [(m.key, m.value, m.normalised) for m in verdict.measurands if m.key != "FAIL_SAFE_CAPACITY"]
    assert others == [(m.key, m.value, m.normalised) for m in packet(body_of()).measurands]
