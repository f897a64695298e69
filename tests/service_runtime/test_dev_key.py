"""The local issuer's key is made once, and kept from others."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.service_runtime.identity import EC_KEY, ED_KEY, NOW, Clock, claims

from service_runtime.access_tokens import AccessTokens, Claims
from service_runtime.dev_key import DevGrant, DevKeyFault, access_token, is_dev_issuer, load_dev_key

_ISSUER = "http://127.0.0.1:8080/auth/dev"


def test_it_is_made_where_there_is_none_for_its_owner_alone_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key.json"
    made = load_dev_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_dev_key(path).jwks == made.jwks
    assert [one.name for one in path.parent.iterdir()] == ["key.json"]


def test_its_public_part_holds_nothing_secret(tmp_path: Path) -> None:
    (key,) = load_dev_key(tmp_path / "key.json").jwks["keys"]
    assert sorted(key) == ["alg", "crv", "kid", "kty", "use", "x", "y"]


def test_of_several_that_make_it_at_once_one_wins_and_all_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(load_dev_key, [tmp_path / "key.json"] * 16))
    assert len({key.jwks["keys"][0]["kid"] for key in made}) == 1


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"kty": "EC", "crv": "P-256"}', "not json"])
def test_what_is_no_such_key_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(DevKeyFault, match=r"DEPOTGRID_DEV_KEY_FILE.*remove it"):
        load_dev_key(path)
    assert path.read_text() == content


def test_a_public_key_or_one_of_another_kind_is_refused(tmp_path: Path) -> None:
    for found in (EC_KEY.as_dict(private=False), ED_KEY.as_dict(private=True)):
        (tmp_path / "key.json").write_text(json.dumps(found))
        with pytest.raises(DevKeyFault):
            load_dev_key(tmp_path / "key.json")


def test_a_place_that_can_not_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DevKeyFault, match="DEPOTGRID_DEV_KEY_FILE") as fault:
        load_dev_key(tmp_path / "file" / "key.json")
    assert "\n" not in str(fault.value)


async def test_its_tokens_hold_for_their_time(tmp_path: Path) -> None:
    key, clock = load_dev_key(tmp_path / "key.json"), Clock()
    tokens = AccessTokens(key.find, is_dev_issuer, clock)
    grant = DevGrant("ada", "device", ["d-1"], "gw-1")
    made = access_token(key, _ISSUER, grant, now_s=int(NOW.timestamp()), ttl_s=100)
    checked = await tokens.check(made)
    assert isinstance(checked, Claims)
    told = {name: checked.values[name] for name in ("sub", "roles", "depots", "gateway_id", "iss", "token_use")}
    assert told == {
        "sub": "ada", "roles": ["device"], "depots": ["d-1"], "gateway_id": "gw-1", "iss": _ISSUER, "token_use": "access",
    }  # fmt: skip
    clock.turn(130)
    assert not isinstance(await tokens.check(made), Claims)


async def test_another_keys_tokens_do_not_hold(tmp_path: Path) -> None:
    ours, theirs = load_dev_key(tmp_path / "ours.json"), load_dev_key(tmp_path / "theirs.json")
    tokens = AccessTokens(ours.find, is_dev_issuer, Clock())
    assert isinstance(await tokens.check(ours.sign(claims(iss=_ISSUER))), Claims)
    assert not isinstance(await tokens.check(theirs.sign(claims(iss=_ISSUER))), Claims)
    assert not isinstance(await tokens.check(ours.sign(claims(iss="https://issuer.example/auth/dev"))), Claims)


@pytest.mark.parametrize(
    ("issuer", "ours"),
    [
        ("http://127.0.0.1:8080/auth/dev", True),
        ("http://localhost:5173/auth/dev/", True),
        ("http://[::1]:8080/auth/dev", True),
        ("http://127.0.0.1:8080/auth/other", False),
        ("http://127.0.0.1.example.com/auth/dev", False),
        ("http://depotgrid.example/auth/dev", False),
        ("http://[broken/auth/dev", False),
        ("/auth/dev", False),
        ("", False),
    ],
)
def test_a_local_issuer_is_one_on_loopback(issuer: str, *, ours: bool) -> None:
    assert is_dev_issuer(issuer) == ours
