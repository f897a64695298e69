"""An issuer of access tokens as tests need it: keys of every kind, tokens genuine and false, a clock that stands still."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from service_runtime.access_tokens import PublicKey, public_keys

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ISSUER = "https://issuer.example/realm"

RSA_KEY = RSAKey.generate_key(2048)
EC_KEY = ECKey.generate_key("P-256")
ED_KEY = OKPKey.generate_key("Ed25519")
OTHER_RSA_KEY = RSAKey.generate_key(2048)
KEYS: dict[str, Key] = {"rsa": RSA_KEY, "ec": EC_KEY, "ed": ED_KEY}


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


def jwks(keys: dict[str, Key] = KEYS) -> bytes:
    """The public parts of keys by their ids."""
    return json.dumps({"keys": [{**key.as_dict(private=False), "kid": kid, "use": "sig"} for kid, key in keys.items()]}).encode()


def keys_of(document: bytes) -> Callable[[str | None], Any]:
    """A source of the keys of a document."""
    found = public_keys(document)

    async def keys(kid: str | None) -> Sequence[PublicKey]:
        return [key for key in found if kid in (None, key.kid)]

    return keys


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a token that holds for a minute; None takes one out."""
    now_s = int(NOW.timestamp())
    told = {"iss": ISSUER, "sub": "ada", "iat": now_s, "exp": now_s + 60, "roles": ["viewer"], "depots": ["*"], **changed}
    return {name: value for name, value in told.items() if value is not None}


def signed(told: dict[str, Any], *, key: Key = RSA_KEY, alg: str = "RS256", kid: str | None = "rsa", **header: Any) -> str:
    """The claims as a token."""
    named = {"kid": kid} if kid is not None else {}
    registry = jws.JWSRegistry(algorithms=[alg], strict_check_header=False)
    return jwt.encode({"alg": alg, **named, **header}, told, key, registry=registry)


def token(**changed: Any) -> str:
    """A genuine token with some claims changed."""
    return signed(claims(**changed))


def by_hand(header: dict[str, Any], told: object, secret: bytes | None) -> str:
    """A token that no library would make: without signature, or with an HMAC."""
    text = ".".join(_encoded(json.dumps(part).encode()) for part in (header, told))
    signature = b"" if secret is None else hmac.new(secret, text.encode(), hashlib.sha256).digest()
    return f"{text}.{_encoded(signature)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
