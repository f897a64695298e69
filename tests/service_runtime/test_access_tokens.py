"""A token counts only if the issuer made it, for us, and it is in force."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import Key, RSAKey
from tests.service_runtime.identity import (
    EC_KEY,
    ED_KEY,
    ISSUER,
    KEYS,
    NOW,
    OTHER_RSA_KEY,
    RSA_KEY,
    Clock,
    by_hand,
    claims,
    jwks,
    keys_of,
    signed,
    token,
)

from service_runtime.access_tokens import AccessTokens, Claims, KeysUnavailable, TokenRefused, public_keys, same_issuer

_NOW_S = int(NOW.timestamp())
_PUBLIC_PEM = RSA_KEY.as_pem(private=False)


def _tokens(document: bytes | None = None, audience: str | None = None) -> AccessTokens:
    return AccessTokens(keys_of(document or jwks()), same_issuer(ISSUER), Clock(), audience)


async def _code(given: str, audience: str | None = None, document: bytes | None = None) -> str:
    match await _tokens(document, audience).check(given):
        case Claims(subject=subject):
            return subject
        case TokenRefused(code=code):
            return code
        case KeysUnavailable():
            return "unavailable"


@pytest.mark.parametrize(
    ("key", "alg", "kid"),
    [(RSA_KEY, "RS256", "rsa"), (EC_KEY, "ES256", "ec"), (ED_KEY, "EdDSA", "ed"), (ED_KEY, "Ed25519", "ed")],
)
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_a_token_signed_by_a_key_of_the_issuer_holds(key: Key, alg: str, kid: str) -> None:
    assert await _code(signed(claims(), key=key, alg=alg, kid=kid)) == "ada"


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(signed(claims(), key=OTHER_RSA_KEY), id="signed by another key under the issuer's key id"),
        pytest.param(signed(claims(), key=OTHER_RSA_KEY, kid=None), id="signed by another key without a key id"),
        pytest.param(signed(claims(), key=OTHER_RSA_KEY, kid="new"), id="unknown key id"),
        pytest.param(signed(claims(), kid="ec"), id="key id of a key for another algorithm"),
        pytest.param(
            signed(claims(), key=OTHER_RSA_KEY, kid=None, jwk=OTHER_RSA_KEY.as_dict(private=False)), id="brings its own key"
        ),
        pytest.param(by_hand({"alg": "none", "kid": "rsa"}, claims(), None), id="alg none"),
        pytest.param(by_hand({"alg": "None", "kid": "rsa"}, claims(), None), id="alg None"),
        pytest.param(by_hand({"alg": "HS256", "kid": "rsa"}, claims(), _PUBLIC_PEM), id="HMAC over the public key"),
        pytest.param(by_hand({"alg": "RS256", "kid": "rsa"}, claims(), _PUBLIC_PEM), id="HMAC called RS256"),
        pytest.param(by_hand({"alg": "RS256", "kid": "rsa"}, claims(), None), id="no signature"),
        pytest.param(by_hand({"alg": ["RS256"], "kid": "rsa"}, claims(), None), id="alg is a list"),
        pytest.param(by_hand({"alg": "RS256", "kid": {"a": 1}}, claims(), None), id="kid is an object"),
        pytest.param(by_hand({"kid": "rsa"}, claims(), None), id="no alg"),
        pytest.param(signed(claims(), alg="RS512"), id="an algorithm that does not count"),
        pytest.param(signed(claims(), alg="PS256"), id="another algorithm of the same key"),
        pytest.param(token()[:-4] + "AAAA", id="a changed signature"),
        pytest.param(
            ".".join([*token(sub="ada").split(".")[:1], *token(sub="eve").split(".")[1:2], token().split(".")[2]]), id="swap"
        ),
        pytest.param("", id="nothing"),
        pytest.param("a.b", id="two parts"),
        pytest.param("ey.ey.ey.ey.ey", id="encrypted"),
        pytest.param("ä.ö.ü", id="not ASCII"),
        pytest.param("x" * 20_000, id="too long"),
        pytest.param(token(note="x" * 16_000), id="genuine and too long"),
    ],
)
async def test_a_token_that_the_issuer_did_not_sign_is_invalid(forged: str) -> None:
    assert await _code(forged) == "TOKEN_INVALID"


async def test_a_critical_header_makes_even_a_genuine_token_invalid() -> None:
    assert await _code(signed(claims(), cty="json")) == "ada"
    assert await _code(signed(claims(), cty="json", crit=["cty"])) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "ada"),
        ({"exp": _NOW_S - 29}, "ada"),
        ({"exp": _NOW_S - 30}, "TOKEN_EXPIRED"),
        ({"exp": _NOW_S - 3600}, "TOKEN_EXPIRED"),
        ({"exp": None}, "TOKEN_INVALID"),
        ({"exp": "tomorrow"}, "TOKEN_INVALID"),
        ({"exp": True}, "TOKEN_INVALID"),
        ({"exp": 10**15}, "TOKEN_INVALID"),
        ({"exp": float(_NOW_S) + 0.5}, "ada"),
        ({"nbf": _NOW_S + 30}, "ada"),
        ({"nbf": _NOW_S + 31}, "TOKEN_INVALID"),
        ({"iat": _NOW_S + 31}, "TOKEN_INVALID"),
        ({"iat": None}, "ada"),
        ({"iss": ISSUER + "/"}, "ada"),
        ({"iss": "https://issuer.example/other"}, "TOKEN_INVALID"),
        ({"iss": None}, "TOKEN_INVALID"),
        ({"iss": [ISSUER]}, "TOKEN_INVALID"),
        ({"sub": None}, "TOKEN_INVALID"),
        ({"sub": None, "client_id": "program"}, "program"),
        ({"sub": ""}, "TOKEN_INVALID"),
        ({"sub": 7}, "TOKEN_INVALID"),
        ({"sub": "a\0b"}, "TOKEN_INVALID"),
        ({"sub": "x" * 257}, "TOKEN_INVALID"),
        ({"token_use": "access"}, "ada"),
        ({"token_use": "id"}, "TOKEN_INVALID"),
        ({"typ": "Bearer"}, "ada"),
        ({"typ": "ID"}, "TOKEN_INVALID"),
        ({"typ": "Refresh"}, "TOKEN_INVALID"),
        ({"typ": ["ID"]}, "ada"),
        ({"at_hash": "x"}, "TOKEN_INVALID"),
    ],
)
async def test_what_a_signed_token_says_decides_whether_it_holds(changed: dict[str, Any], expected: str) -> None:
    assert await _code(token(**changed)) == expected


@pytest.mark.parametrize(
    ("changed", "holds"),
    [
        ({"aud": "depotgrid"}, True),
        ({"aud": ["other", "depotgrid"]}, True),
        ({"aud": "other"}, False),
        ({"aud": ["other"]}, False),
        ({"aud": "depotgrid-and-more"}, False),
        ({"aud": []}, False),
        ({"aud": None}, False),
        ({"client_id": "depotgrid"}, True),
        ({"client_id": "other"}, False),
        ({"client_id": "depotgrid", "aud": "other"}, False),
        ({"client_id": 7}, False),
    ],
)
async def test_an_audience_that_is_asked_for_is_in_aud_or_else_the_client_id(changed: dict[str, Any], *, holds: bool) -> None:
    assert await _code(token(**changed), audience="depotgrid") == ("ada" if holds else "TOKEN_INVALID")


async def test_a_token_in_cognitos_shape_holds() -> None:
    told = {
        "sub": "0b6d2f4e-8f6e-4a4b-9d3e-1b7f6d0c2a11",
        "cognito:groups": ["operator"],
        "iss": ISSUER,
        "version": 2,
        "client_id": "7abc",
        "event_id": "e",
        "token_use": "access",
        "scope": "openid",
        "auth_time": _NOW_S - 5,
        "exp": _NOW_S + 3600,
        "iat": _NOW_S - 5,
        "jti": "j",
        "username": "ada",
    }
    checked = await _tokens(audience="7abc").check(signed(told))
    assert isinstance(checked, Claims)
    assert checked.values["cognito:groups"] == ["operator"]


async def test_without_a_key_id_the_one_key_for_the_algorithm_counts_and_two_are_one_too_many() -> None:
    assert await _code(signed(claims(), kid=None)) == "ada"
    assert await _code(signed(claims(), kid=None), document=jwks({**KEYS, "rsa-2": OTHER_RSA_KEY})) == "TOKEN_INVALID"


async def test_no_keys_at_the_moment_is_not_the_tokens_fault() -> None:
    async def none(_: str | None) -> KeysUnavailable:
        return KeysUnavailable()

    assert await AccessTokens(none, same_issuer(ISSUER), Clock()).check(token()) == KeysUnavailable()


@pytest.mark.filterwarnings("ignore:Key size")
def test_only_keys_that_can_check_signatures_are_taken_from_a_set() -> None:
    rsa = {**RSA_KEY.as_dict(private=False), "kid": "good"}
    odd: list[object] = [
        rsa,
        {**rsa, "kid": "for encryption", "use": "enc"},
        {**rsa, "kid": "for another algorithm", "alg": "RS512"},
        {**rsa, "kid": 7},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared secret"},
        {"kty": "RSA", "kid": "half", "n": "AQAB"},
        {**RSAKey.generate_key(1024).as_dict(private=False), "kid": "short"},
        {"kty": "AKP", "kid": "of the future"},
        {"kid": "of no kind"},
        "text",
        None,
    ]
    assert [key.kid for key in public_keys(json.dumps({"keys": odd}))] == ["good"]


@pytest.mark.parametrize("document", ["[]", "{}", '{"keys": {}}', "nonsense", "null"])
def test_what_is_no_key_set_is_refused(document: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        public_keys(document)


_PARTS = st.one_of(st.text(max_size=60), st.sampled_from(token().split(".")), st.just("e30"), st.just("bnVsbA"), st.just("W10"))


@given(parts=st.lists(_PARTS, max_size=5))
async def test_no_text_whatever_it_is_passes_or_breaks_the_check(parts: list[str]) -> None:
    text = ".".join(parts)
    if text != token():
        assert isinstance(await _tokens().check(text), TokenRefused)


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), st.lists, max_leaves=4)


@given(told=st.dictionaries(st.sampled_from(["iss", "sub", "exp", "nbf", "iat", "aud", "client_id", "token_use", "typ"]), _JSON))
async def test_no_signed_claims_whatever_they_are_break_the_check(told: dict[str, Any]) -> None:
    payload = json.loads(json.dumps({**claims(), **told}))
    assert isinstance(await _tokens(audience="a").check(signed(payload)), TokenRefused | Claims)
