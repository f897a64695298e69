"""What a person must settle, with what to do about it."""

from __future__ import annotations

import pytest
from tests.read_api.conftest import Reader
from tests.read_api.seed import T0

from event_store.database import Pool
from event_store.remediation import RemediationEntry, put_remediation
from read_api.remediation import advice


@pytest.mark.usefixtures("site")
async def test_open_questions_page_by_device_and_measurand(pool: Pool, reader: Reader) -> None:
    entries = [
        RemediationEntry("d-1", "ctrl-1", measurand, "A", "AMBIGUOUS_CIRCUIT", ("gc-1", "gc-2"), T0, T0, 3) for measurand in "abc"
    ]
    async with pool.acquire() as connection:
        await put_remediation(connection, entries)
    page = await reader.get("/api/depot/d-1/remediation", limit=2)
    rest = await reader.get("/api/depot/d-1/remediation", limit=2, cursor=page["next"])
    assert [one["measurand"] for one in page["items"] + rest["items"]] == ["a", "b", "c"]
    assert (rest["items"][0]["candidates"], rest["items"][0]["count"]) == (["gc-1", "gc-2"], 3)
    assert "circuit_id" in rest["items"][0]["advice"]


@pytest.mark.parametrize(
    "code",
    [
        "AMBIGUOUS_CIRCUIT_POWER_SOURCE",
        "AMBIGUOUS_DEPOT_BATTERY",
        "NO_POWER_SOURCE",
        "INVALID_POWER_SOURCE",
        "MICROGRID_NOT_FOUND",
        "CAPABILITY_NOT_BOUND",
        "CIRCUIT_NOT_FOUND",
        "AMBIGUOUS_CIRCUIT",
    ],
)
def test_every_code_has_its_own_advice(code: str) -> None:
    assert advice(code) != advice("SOMETHING_NEW")
