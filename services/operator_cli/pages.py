"""The built web pages as answers: what is at a path, how long it may be kept, and what a page may do in a browser.

The folder is read once, at the start. A path that names a file gets it; any other gets `index.html`, for which page it means is
the browser's affair; under `/assets/` it is a 404, so that a page of an older build is told that its part is gone. Names under
`/assets/` carry a hash of their content and are kept for a year; everything else is asked about each time (`ETag`, 304). Text is
held compressed, too, for who takes gzip.

The policy lets a page load scripts and styles from here alone, and talk to here and to where it signs in (`sign_in_origins.py`).
Nothing inline, no frames around it.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import msgspec
from starlette.types import Scope, Send

from operator_cli.sign_in_origins import origin_of
from service_runtime.dev_key import DEV_CLIENT
from service_runtime.settings import Settings

INDEX = "/index.html"
CONFIG = "/web-config.json"
ASSETS = "assets"
_HASHED = f"/{ASSETS}/"
_OF_THE_APIS = ("/api", "/auth", "/livez", "/readyz", "/metrics")
_COMPRESSED_FROM = 512
_TEXT = ("text/", "application/json", "application/javascript", "image/svg+xml")
_NOT_BUILT = (
    b"The web pages are not built. In a checkout, run `deploy/dev/setup demo` and start again; a package has them if they were "
    b"built before it. The API is under /api.\n"
)


@dataclass(frozen=True, slots=True)
class SignInConfig:
    """What a page has to know to sign somebody in; public."""

    auth: str
    issuer: str | None
    client_id: str | None
    scope: str = "openid"


def sign_in_config(settings: Settings) -> SignInConfig:
    """What the settings say about signing in."""
    return SignInConfig(settings.auth, settings.oidc_issuer, DEV_CLIENT if settings.auth == "dev" else settings.oidc_client_id)


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    compressed: bytes | None
    media_type: bytes
    etag: bytes
    caching: bytes


class Pages:
    """The files of a folder, and the configuration of the sign-in; a folder that is not there has no files."""

    def __init__(self, folder: Path, config: SignInConfig) -> None:
        self._files = {
            f"/{path.relative_to(folder).as_posix()}": _read(path, hashed=path.parent.name == ASSETS)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        }
        self._files[CONFIG] = _file(msgspec.json.encode(config), "application/json", b"no-store")
        own = origin_of(config.issuer) if config.auth == "oidc" and config.issuer else None
        self._headers = _security_headers((own,) if own is not None else ())

    def allow(self, origins: Sequence[str]) -> None:
        """From now on pages may talk to these, besides where they come from."""
        self._headers = _security_headers(origins)

    def is_ours(self, method: str, path: str) -> bool:
        """Whether a request is for a page and not for an API."""
        return method in ("GET", "HEAD") and not any(path == one or path.startswith(f"{one}/") for one in _OF_THE_APIS)

    async def answer(self, scope: Scope, send: Send) -> None:
        """Answer a GET or HEAD."""
        path = unquote(scope["path"])
        found = self._files.get(path)
        if found is None and not path.startswith(_HASHED):
            found = self._files.get(INDEX)
            if found is None:
                await self._say(scope, send, 503, [(b"content-type", b"text/plain; charset=utf-8")], _NOT_BUILT)
                return
        if found is None:
            await self._say(scope, send, 404, [(b"content-type", b"text/plain; charset=utf-8")], b"no such part of the pages\n")
            return
        asked = dict(scope["headers"])
        headers = [(b"content-type", found.media_type), (b"cache-control", found.caching), (b"etag", found.etag)]
        if found.compressed is not None:
            headers.append((b"vary", b"accept-encoding"))
        if found.etag in [one.strip() for one in asked.get(b"if-none-match", b"").split(b",")]:
            await self._say(scope, send, 304, headers, b"")
            return
        body = found.body
        if found.compressed is not None and _takes_gzip(asked.get(b"accept-encoding", b"")):
            body = found.compressed
            headers.append((b"content-encoding", b"gzip"))
        await self._say(scope, send, 200, headers, body)

    async def _say(self, scope: Scope, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        length = [] if status == 304 else [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *length, *self._headers]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _read(path: Path, *, hashed: bool) -> _File:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _file(path.read_bytes(), media_type, b"public, max-age=31536000, immutable" if hashed else b"no-cache")


def _file(body: bytes, media_type: str, caching: bytes) -> _File:
    text = media_type.startswith(_TEXT)
    compressed = gzip.compress(body, 6, mtime=0) if text and len(body) >= _COMPRESSED_FROM else None
    stated = f"{media_type}; charset=utf-8" if text and media_type != "image/svg+xml" else media_type
    etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'.encode()
    return _File(body, compressed, stated.encode(), etag, caching)


def _takes_gzip(accepted: bytes) -> bool:
    for one in accepted.split(b","):
        coding, _, weight = one.partition(b";")
        if coding.strip().lower() in (b"gzip", b"*"):
            return weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False


def _security_headers(origins: Sequence[str]) -> list[tuple[bytes, bytes]]:
    policy: Mapping[str, str] = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": " ".join(("'self'", *origins)),
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return [
        (b"content-security-policy", "; ".join(f"{name} {value}" for name, value in policy.items()).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
    ]
