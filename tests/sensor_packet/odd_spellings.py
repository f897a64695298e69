"""Ways to write a JSON value that a reader of packets could stumble over, and packets in text with such values put in anywhere."""

from __future__ import annotations

import json

from hypothesis import strategies as st

TOKENS = [
    *[
        "0",
        "-0",
        "-0.0",
        "1",
        "1.0",
        "74.5",
        "100",
        "100.3",
        "1e2",
        "1E+2",
        "1e-400",
        "1e308",
        "1e999",
        "-1e999",
        "1e306",
        "4.9e-324",
        "0.30000000000000004",
    ],
    *[
        "2.2250738585072011e-308",
        "9007199254740993",
        "9007199254740993.0",
        "18446744073709551616",
        "01",
        "1.",
        "-",
        ".5",
        "+1",
        "0x10",
        "1e",
    ],
    *(digit * count for digit in ("9", "-9") for count in (19, 309, 310, 450, 5000)),
    f"0.1{'7' * 400}",
    *["NaN", "Infinity", "-Infinity", "true", "false", "null", "tru", "True"],
    *("[]", "{}", "[1]", '{"a":1}', "[" * 20 + "]" * 20, "[" * 29 + "]" * 29, "[" * 30 + "]" * 30, "[" * 40 + "]" * 40, '"'),
]
TEXTS = [
    *[
        "ON",
        "OFF",
        "IDLE",
        "STANDBY",
        "W",
        "kW",
        "MW",
        "Wh",
        "kWh",
        "%",
        "GOOD",
        "BAD",
        "good",
        "1.0",
        "1.7",
        "1.00",
        "2.0",
        "gw-1",
        "ctrl-1",
        "ctrl-2",
        "gw-1\\n",
        "a/b",
        "é",
        "🔋",
    ],
    *("x" * count for count in (0, 64, 65, 256, 257)),
    *("é" * count for count in (64, 65, 256, 257)),
    *[
        "\\u0000",
        "a\\u0000b",
        "\\\\u0000",
        "\\ud800",
        "\\udc00\\ud800",
        "\\ud83d\\ude00",
        "\\u0041",
        "\\u00zz",
        "\\n",
        "\\/",
        "\\x",
        "\\",
    ],
    *("\x00", "\x1f", "\x7f", "\ufeff", "\ud800"),
]
TIMES = """
2026-11-20T21:00:00Z
2026-11-20t21:00:00z
2026-11-20T21:00:00z
2026-11-20 21:00:00Z
2026-11-20T21:00:00
2026-11-20T21:00:00+00:00
2026-11-20T21:00:00-00:00
2026-11-21T05:00:00.5+08:00
2026-11-20T21:05:01Z
2026-11-20T21:05:01.000001Z
2026-11-20T21:05:01.0000009Z
2026-11-20T21:05:02Z
2026-11-20T21:00:00.1234567890123Z
2026-11-20T21:00:00.Z
2026-11-20T21:00:00,5Z
2026-11-20T24:00:00Z
2026-11-20T21:60:00Z
2026-11-20T21:00:60Z
2026-11-20T21:00Z
2026-11-20T21Z
2026-11-20T21:00:00+0000
2026-11-20T21:00:00+00
2026-11-20T21:00:00+24:00
2026-11-20T21:00:00+00:00:30
2026-02-29T00:00:00Z
2024-02-29T00:00:00Z
2026-13-01T00:00:00Z
0000-01-01T00:00:00Z
0001-01-01T00:00:00Z
0001-01-01T00:00:00+23:00
9999-12-31T23:59:59-23:59
2026-W47-5T21:00:00Z
2026-324T21:00:00Z
20261120T210000Z
+2026-11-20T21:00:00Z
２026-11-20T21:00:00Z
""".strip().split("\n")
KEYS = [
    "SOC",
    "PEAK_SHAVING",
    "ACTIVE_POWER",
    "IMPORT_ENERGY",
    "DEVICE_POWER_STATE",
    "DISPATCH_STATE",
    "BESS_OPERATIONAL_MODE",
    "other",
    "1x",
    "É",
]
SPELLED = TOKENS + [f'"{text}"' for text in (*TEXTS, *TIMES, *KEYS)]
HEADING = {
    "schema_version": '"1.0"',
    "packet_id": '"p-1"',
    "gateway_id": '"gw-1"',
    "device_id": '"ctrl-1"',
    "sent_at": '"2026-11-20T21:00:00.250Z"',
}
MEASURAND_MEMBERS = ["key", "value", "unit", "observed_at", "quality"]
FAULTLESS = [
    {"key": '"SOC"', "value": "74.5", "unit": '"%"', "quality": '"BAD"'},
    {"key": '"PEAK_SHAVING"', "value": "true", "observed_at": '"2026-11-20T20:59:58Z"'},
    {"key": '"ACTIVE_POWER"', "value": "-1e2", "unit": '"W"', "observed_at": '"2026-11-20T21:00:00.250Z"'},
    {"key": '"IMPORT_ENERGY"', "value": "12345678901234567890", "unit": '"MWh"'},
    {"key": '"DEVICE_POWER_STATE"', "value": "false"},
    {"key": '"DISPATCH_STATE"', "value": '"IDLE"', "quality": '"GOOD"'},
    {"key": '"other"', "value": "7", "unit": '"x"'},
]
_NAMES = [*HEADING, *MEASURAND_MEMBERS, "measurands", "unknown", "k\\u0065y", "Key", "", "\\u0000"]
_SPACES = [*[""] * 40, " ", "\n\t", "\r", "\u00a0", "\x00", "\ufeff"]
_PIECES = [b'"', b"\\", b"\xed\xa0\x80", b"\xc0\x80", b"\xff", b"\x00", b"{", b"]", b",", b"e9"]

spelled = st.sampled_from(SPELLED) | st.floats().map(repr) | st.integers().map(str) | st.text(max_size=5).map(json.dumps)
_odd_count = st.sampled_from([*[0] * 12, 1, 2])
_odd_gap = st.sampled_from(_SPACES)
_is_odd = st.sampled_from([*[False] * 15, True])


def written(members: list[tuple[str, str]], gap: str = "") -> str:
    """Write an object of members in text, in their order, repetitions included, with the same gap everywhere."""
    return gap + "{" + ("," + gap).join(f'{gap}"{name}"{gap}:{gap}{value}' for name, value in members) + "}" + gap


@st.composite
def members(draw: st.DrawFn, faultless: dict[str, str]) -> list[tuple[str, str]]:
    """Give members in any order, at times with odd ones put in, which repeat a name or are unknown."""
    found = draw(st.permutations(list(faultless.items())))
    for _ in range(draw(_odd_count)):
        name = draw(st.sampled_from([*faultless, *faultless, *_NAMES]))
        found.insert(draw(st.integers(0, len(found))), (name, draw(spelled)))
    return found


@st.composite
def measurand_texts(draw: st.DrawFn, faultless: dict[str, str]) -> str:
    """Give one measurand in text, or at times any value in its place."""
    return draw(spelled) if draw(_is_odd) else written(draw(members(faultless)), draw(_odd_gap))


@st.composite
def packet_texts(draw: st.DrawFn) -> bytes:
    """Give packets, from faultless to broken in several places, with the freedom of spelling that JSON gives."""
    chosen = draw(st.lists(st.sampled_from(FAULTLESS), min_size=1, max_size=4, unique_by=lambda item: item["key"]))
    items = [draw(measurand_texts(item)) for item in chosen]
    outside = draw(members(HEADING))
    outside.insert(draw(st.integers(0, len(outside))), ("measurands", "[" + ",".join(items) + "]"))
    return written(outside, draw(_odd_gap)).encode("utf-8", "surrogatepass")


@st.composite
def damaged_texts(draw: st.DrawFn) -> bytes:
    """Give a packet with a few bytes removed, replaced or put in."""
    body = bytearray(draw(packet_texts()))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        piece = draw(st.binary(max_size=3) | st.sampled_from(_PIECES))
        body[place : place + draw(st.integers(0, 2))] = piece
    return bytes(body)
