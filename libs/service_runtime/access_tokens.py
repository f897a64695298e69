"""Is an access token genuine and in force: signature, issuer, audience, times. What it allows is decided elsewhere.

A token is a JWS in compact form, signed with RS256, ES256 or EdDSA (also under its newer name Ed25519) by a key of the issuer.
The key alone decides which algorithms it can have signed with, so neither `none` nor an HMAC over a public key ever counts, and
whatever key a token brings along in its header is not looked at. `kid` names the key; without one, the issuer must have exactly
one key for the algorithm. Critical header extensions are refused, for we know none.

The issuer is compared without a closing slash. `exp` is required, `nbf` and `iat` count where they are there, each with a leeway
of 30 s for clocks that differ. The audience, where one is asked for, is in `aud`; tokens of issuers that write no `aud` into
access tokens (Cognito) carry it as `client_id`. Identity and refresh tokens are no access tokens: `token_use` other than
`access`, a `typ` claim of `ID` or `Refresh`, or an `at_hash` give them away. `sub`, or else `client_id`, says who it is.

Reasons are sentences of ours: nothing from a token gets into them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError, MissingClaimError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

LEEWAY_S = 30
ALGORITHMS = ("RS256", "ES256", "EdDSA", "Ed25519")
TOKEN_LIMIT = 16 * 1024
"""Longest token that is looked at, in characters."""

_KEY_LIMIT = 100
_NAME_LIMIT = 256
_LEAST_RSA_BITS = 2048
_END_OF_TIME = 253_402_300_800  # the first second of year 10000, which no datetime holds
_NO_ACCESS_TOKEN = ("ID", "Refresh")
_HOSTILE = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
"""What decoding text from a stranger may end in."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key of an issuer, and the algorithms that it can sign with."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: Key


@dataclass(frozen=True, slots=True)
class KeysUnavailable:
    """The issuer's keys can not be had at the moment."""


KeysOf = Callable[[str | None], Awaitable[Sequence[PublicKey] | KeysUnavailable]]
"""Gives the issuer's keys with a key id, or all of them for None."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a genuine token says."""

    subject: str
    expires_at_s: float
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """A token that does not hold, with a sentence for whoever sent it."""

    code: Literal["TOKEN_EXPIRED", "TOKEN_INVALID"]
    reason: str


def _invalid(reason: str) -> TokenRefused:
    return TokenRefused("TOKEN_INVALID", reason)


class _Algorithms(jws.JWSRegistry):
    """The signatures that count, whatever the library would recommend, for headers of any issuer."""

    max_header_length = TOKEN_LIMIT

    def __init__(self) -> None:
        super().__init__(algorithms=ALGORITHMS, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        """The algorithm of a name, without the library's advice to call EdDSA by another one."""
        if name not in ALGORITHMS:
            raise ValueError("not an algorithm that counts")
        return self.algorithms[name]


class AccessTokens:
    """Checks tokens against an issuer's keys; `issued_by_us` tells whether an `iss` is the issuer; `clock` gives aware times."""

    def __init__(
        self, keys: KeysOf, issued_by_us: Callable[[str], bool], clock: Callable[[], datetime], audience: str | None = None
    ) -> None:
        self._keys = keys
        self._issued_by_us = issued_by_us
        self._clock = clock
        self._audience = audience
        self._signatures = _Algorithms()

    async def check(self, token: str) -> Claims | TokenRefused | KeysUnavailable:
        """What the token says, or why it does not hold, or that this can not be told."""
        header = self._header(token)
        if isinstance(header, TokenRefused):
            return header
        algorithm, kid = header
        found = await self._keys(kid)
        if isinstance(found, KeysUnavailable):
            return found
        fitting = [key for key in found if algorithm in key.algorithms]
        if len(fitting) != 1:
            return _invalid("the issuer has no key for it, or several and it names none")
        try:
            claims = jwt.decode(token, fitting[0].key, registry=self._signatures).claims
        except _HOSTILE:
            return _invalid("its signature is not one of the issuer's")
        return self._judge(claims)

    def _header(self, token: str) -> tuple[str, str | None] | TokenRefused:
        if len(token) > TOKEN_LIMIT:
            return _invalid(f"it is longer than {TOKEN_LIMIT} characters")
        try:
            header = jws.extract_compact(token.encode("ascii"), registry=self._signatures).headers()
        except _HOSTILE:
            return _invalid("it is not a signed JSON Web Token")
        algorithm: object = header.get("alg")
        kid: object = header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            return _invalid(f"it is not signed with {', '.join(ALGORITHMS[:-1])}")
        if kid is not None and not (isinstance(kid, str) and len(kid) <= _NAME_LIMIT):
            return _invalid("its key id is not one")
        if "crit" in header:
            return _invalid("it asks for a header extension that is not known")
        return algorithm, kid

    def _judge(self, claims: dict[str, Any]) -> Claims | TokenRefused:
        now_s = int(self._clock().timestamp())
        try:
            jwt.JWTClaimsRegistry(now=now_s, leeway=LEEWAY_S, exp={"essential": True}, iss={"essential": True}).validate(claims)
        except ExpiredTokenError:
            return TokenRefused("TOKEN_EXPIRED", "it has expired; sign in again or ask for a new one")
        except MissingClaimError:
            return _invalid("it does not say who issued it, or until when it holds")
        except _HOSTILE:
            return _invalid("it is not in force yet, or its claims can not be read")
        if not self._issued_by_us(claims["iss"]):
            return _invalid("it comes from another issuer")
        if not _is_for(self._audience, claims):
            return _invalid("it is meant for another audience")
        if claims.get("token_use", "access") != "access" or claims.get("typ") in _NO_ACCESS_TOKEN or "at_hash" in claims:
            return _invalid("it is not an access token")
        subject: object = claims.get("sub", claims.get("client_id"))
        if not isinstance(subject, str) or not 0 < len(subject) <= _NAME_LIMIT or not subject.isprintable():
            return _invalid("it does not say whose it is")
        if not 0 < claims["exp"] < _END_OF_TIME:
            return _invalid("its end is not a time")
        return Claims(subject, claims["exp"], claims)


def public_keys(document: bytes | str) -> tuple[PublicKey, ...]:
    """The keys of a JWKS document that can check signatures; others in it are left out. ValueError for what is no JWKS."""
    found: object = json.loads(document)
    entries: object = cast("dict[str, object]", found).get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a JSON Web Key Set")
    keys = (_public_key(cast("dict[str, Any]", one)) for one in cast("list[object]", entries)[:_KEY_LIMIT] if isinstance(one, dict))
    return tuple(key for key in keys if key is not None)


def same_issuer(issuer: str) -> Callable[[str], bool]:
    """Whether an `iss` is this issuer's, a closing slash aside."""
    wanted = issuer.rstrip("/")
    return lambda iss: iss.rstrip("/") == wanted


def _public_key(entry: dict[str, Any]) -> PublicKey | None:
    kid: object = entry.get("kid")
    if entry.get("use", "sig") != "sig" or not (kid is None or isinstance(kid, str)):
        return None
    try:
        key, algorithms = _imported(entry)
    except _HOSTILE:
        return None
    said: object = entry.get("alg")
    return PublicKey(kid, algorithms, key) if algorithms and (said is None or said in algorithms) else None


def _imported(entry: dict[str, Any]) -> tuple[Key, tuple[str, ...]]:
    """The key, with nothing of the entry but what makes the key itself."""

    def parts(*names: str) -> dict[str, Any]:
        return {name: entry[name] for name in ("kty", *names)}

    match entry.get("kty"), entry.get("crv"):
        case "RSA", _:
            rsa = RSAKey.import_key(parts("n", "e"))
            return rsa, ("RS256",) if rsa.public_key.key_size >= _LEAST_RSA_BITS else ()
        case "EC", "P-256":
            return ECKey.import_key(parts("crv", "x", "y")), ("ES256",)
        case "OKP", "Ed25519":
            return OKPKey.import_key(parts("crv", "x")), ("EdDSA", "Ed25519")
        case _:
            raise ValueError("not a key for signatures that count")


def _is_for(audience: str | None, claims: Mapping[str, Any]) -> bool:
    if audience is None:
        return True
    told: object = claims["aud"] if "aud" in claims else claims.get("client_id")
    return told == audience or (isinstance(told, Collection) and not isinstance(told, str) and audience in told)
