"""The key of the local issuer, with which tokens for development are made and checked.

It lies in a file (`DEPOTGRID_DEV_KEY_FILE`; `depotgrid up` keeps it in its data folder) that its owner alone can read, so that
all processes and `depotgrid token` agree and a token outlives a restart. Whoever needs it first makes it; of several at once one
wins. Where a file is that is no such key, nothing is overwritten.

An issuer is ours when it is `/auth/dev` on an address of loopback: the same service is reached as `localhost`, `127.0.0.1` and
under several ports, and what makes a token ours is the key.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from service_runtime.access_tokens import PublicKey, public_keys
from service_runtime.settings import is_loopback

DEV_PATH = "/auth/dev"
DEV_CLIENT = "depotgrid-dev"
_ALGORITHM = "ES256"
_CURVE = "P-256"
_SIGNATURES = jws.JWSRegistry(algorithms=[_ALGORITHM])


class DevKeyFault(Exception):
    """The key can not be had; the message is one line for a person."""


class DevKey:
    """The local issuer's key: makes tokens, and gives what checks them."""

    def __init__(self, key: ECKey) -> None:
        self._key = key
        self.jwks: dict[str, Any] = {
            "keys": [{**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": _ALGORITHM}]
        }
        """The public part, as a JWKS document."""
        self._public = public_keys(json.dumps(self.jwks))

    async def find(self, kid: str | None) -> Sequence[PublicKey]:
        """The public key, where it has this id; the `KeysOf` of `AccessTokens`."""
        return [key for key in self._public if kid in (None, key.kid)]

    def sign(self, claims: dict[str, Any], *, token_type: str = "at+jwt") -> str:  # noqa: S107 - a media type
        """The claims as a signed token."""
        header = {"alg": _ALGORITHM, "kid": self._key.thumbprint(), "typ": token_type}
        return jwt.encode(header, claims, self._key, registry=_SIGNATURES)


@dataclass(frozen=True, slots=True)
class DevGrant:
    """What a development token says; `depots` None for all of them."""

    subject: str
    role: str
    depots: Sequence[str] | None
    gateway_id: str | None


def access_token(key: DevKey, issuer: str, grant: DevGrant, *, now_s: int, ttl_s: int) -> str:
    """An access token of the local issuer that holds from `now_s` (seconds since 1970) for `ttl_s` seconds."""
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": grant.subject,
        "client_id": DEV_CLIENT,
        "token_use": "access",
        "jti": secrets.token_urlsafe(12),
        "iat": now_s,
        "exp": now_s + ttl_s,
        "roles": [grant.role],
        "depots": ["*"] if grant.depots is None else list(grant.depots),
    }
    if grant.gateway_id is not None:
        claims["gateway_id"] = grant.gateway_id
    return key.sign(claims)


def is_dev_issuer(issuer: str) -> bool:
    """Whether an `iss` is a local issuer."""
    try:
        parts = urlsplit(issuer)
        return parts.scheme in ("http", "https") and is_loopback(parts.hostname or "") and parts.path.rstrip("/") == DEV_PATH
    except ValueError:
        return False


def load_dev_key(path: Path) -> DevKey:
    """The key in a file, made where there is none; DevKeyFault when it can neither be read nor made."""
    try:
        if not path.exists():
            _make(path)
        found: dict[str, Any] = json.loads(path.read_text())
        key = ECKey.import_key(found)
    except OSError as fault:
        raise DevKeyFault(f"DEPOTGRID_DEV_KEY_FILE: {path}: {fault.strerror or fault}; name a file that can be written") from fault
    except (ValueError, TypeError, JoseError) as fault:
        raise DevKeyFault(f"DEPOTGRID_DEV_KEY_FILE: {path} holds no key of the local issuer; remove it") from fault
    if not key.is_private or key.curve_name != _CURVE:
        raise DevKeyFault(f"DEPOTGRID_DEV_KEY_FILE: {path} holds no key of the local issuer; remove it")
    return DevKey(key)


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(ECKey.generate_key(_CURVE).as_dict(private=True), file)
    try:
        # A link, unlike a renaming, leaves alone what another process has put there meanwhile.
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()
