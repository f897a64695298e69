"""The local issuer: sign-in without an identity provider, for whoever develops or tries things on one machine.

Everyone who can open the page can be anyone, so it exists only with `DEPOTGRID_AUTH=dev`, which is refused on any address but
loopback; and it answers only to requests that name loopback as their host, so that a web site which points its own name at this
machine gets nothing. It speaks OpenID Connect as far as a page needs it: configuration and JWKS, the authorisation-code flow with
PKCE (S256, never plain), a code that is good once and for a minute, sent back to addresses on loopback alone. Codes are in the
memory of this process; the key is in a file (`dev_key`). Without a client's request the page shows a token for the shell.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from service_runtime.dev_key import DEV_CLIENT, DEV_PATH, DevGrant, DevKey, access_token
from service_runtime.dev_sign_in_page import DEV_ROLES, sign_in_page, token_page
from service_runtime.problem import Problem
from service_runtime.settings import is_loopback

TOKEN_TTL_S = 8 * 3600
"""How long a token from the page holds: a working day."""
CODE_TTL = timedelta(seconds=60)
_CODES_LIMIT = 100
_FORM_LIMIT = 16 * 1024
_IDENTIFIER = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SUBJECT_LIMIT = 64
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)
_ASKED = ("response_type", "client_id", "redirect_uri", "code_challenge", "code_challenge_method", "state", "nonce", "scope")
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # A browser holds form-action also against where the answer to the form leads: the client on loopback.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self' http://127.0.0.1:* http://localhost:*",
}
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True)
class _Code:
    grant: DevGrant
    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str | None
    good_until: datetime


class _TokenFault(Exception):
    """A request for a token that is refused, in the words of RFC 6749: error and description."""


class _Issuer:
    def __init__(self, key: DevKey, clock: Callable[[], datetime]) -> None:
        self._key = key
        self._clock = clock
        self._codes: OrderedDict[str, _Code] = OrderedDict()

    async def configuration(self, request: Request) -> Response:
        issuer = _issuer_of(request)
        return JSONResponse(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token",
                "jwks_uri": f"{issuer}/jwks.json",
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "scopes_supported": ["openid"],
            }
        )

    async def jwks(self, request: Request) -> Response:
        _issuer_of(request)
        return JSONResponse(self._key.jwks)

    async def page(self, request: Request) -> Response:
        """The page on which a person chooses who to be."""
        _issuer_of(request)
        asked = {name: value for name, value in request.query_params.items() if name in _ASKED}
        if asked:
            _check_request(asked)
        return HTMLResponse(sign_in_page(asked), headers=_PAGE_HEADERS)

    async def chosen(self, request: Request) -> Response:
        """Back to the client with a code; or, where no client asked, the token itself."""
        issuer = _issuer_of(request)
        form = await _form(request)
        asked = {name: form[name] for name in _ASKED if form.get(name)}
        grant = _grant(form)
        now = self._clock()
        if not asked:
            token = access_token(self._key, issuer, grant, now_s=int(now.timestamp()), ttl_s=TOKEN_TTL_S)
            return HTMLResponse(token_page(token), headers=_PAGE_HEADERS)
        redirect_uri = _check_request(asked)
        code = secrets.token_urlsafe(32)
        self._codes[code] = _Code(
            grant, asked["client_id"], redirect_uri, asked["code_challenge"], asked.get("nonce"), now + CODE_TTL
        )
        while len(self._codes) > _CODES_LIMIT:
            self._codes.popitem(last=False)
        answer = {"code": code, "iss": issuer} | ({"state": asked["state"]} if "state" in asked else {})
        joint = "&" if urlsplit(redirect_uri).query else "?"
        return RedirectResponse(f"{redirect_uri}{joint}{urlencode(answer)}", status_code=303, headers=_PAGE_HEADERS)

    async def token(self, request: Request) -> Response:
        """A token for a code and the verifier that belongs to its challenge."""
        issuer = _issuer_of(request)
        form = await _form(request)
        try:
            code = self._redeemed(form)
        except _TokenFault as fault:
            error, description = fault.args
            return JSONResponse({"error": error, "error_description": description}, status_code=400, headers=_NO_STORE)
        now_s = int(self._clock().timestamp())
        who: dict[str, Any] = {"iss": issuer, "sub": code.grant.subject, "aud": code.client_id, "token_use": "id"}
        nonce = {"nonce": code.nonce} if code.nonce is not None else {}
        document = {
            "access_token": access_token(self._key, issuer, code.grant, now_s=now_s, ttl_s=TOKEN_TTL_S),
            "id_token": self._key.sign({**who, "iat": now_s, "exp": now_s + TOKEN_TTL_S, **nonce}, token_type="JWT"),  # noqa: S106
            "token_type": "Bearer",
            "expires_in": TOKEN_TTL_S,
        }
        return JSONResponse(document, headers=_NO_STORE)

    def _redeemed(self, form: Mapping[str, str]) -> _Code:
        if form.get("grant_type") != "authorization_code":
            raise _TokenFault("unsupported_grant_type", "only authorization_code is possible")
        # Taken out before anything is checked: a code that was tried with a wrong verifier is spent.
        code = self._codes.pop(form.get("code", ""), None)
        if code is None or self._clock() >= code.good_until:
            raise _TokenFault("invalid_grant", "the code is unknown, spent or older than a minute")
        if form.get("client_id") != code.client_id or form.get("redirect_uri") != code.redirect_uri:
            raise _TokenFault("invalid_grant", "client_id or redirect_uri is not the one that the code was made for")
        verifier = form.get("code_verifier", "")
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(challenge_of(verifier), code.challenge):
            raise _TokenFault("invalid_grant", "code_verifier does not belong to code_challenge")
        return code


def dev_issuer_routes(key: DevKey, clock: Callable[[], datetime]) -> Sequence[Route]:
    """The routes under `/auth/dev`; `clock` gives aware times."""
    issuer = _Issuer(key, clock)
    return (
        Route(DEV_PATH, issuer.page, methods=["GET"]),
        Route(f"{DEV_PATH}/authorize", issuer.page, methods=["GET"]),
        Route(f"{DEV_PATH}/authorize", issuer.chosen, methods=["POST"]),
        Route(f"{DEV_PATH}/token", issuer.token, methods=["POST"]),
        Route(f"{DEV_PATH}/jwks.json", issuer.jwks, methods=["GET"]),
        Route(f"{DEV_PATH}/.well-known/openid-configuration", issuer.configuration, methods=["GET"]),
    )


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636, 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _issuer_of(request: Request) -> str:
    host = request.headers.get("host", "")
    try:
        local = is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        local = False
    if not local:
        raise Problem(421, "NOT_LOCAL", "the local issuer answers only under a loopback address, such as 127.0.0.1 or localhost")
    return f"{request.url.scheme}://{host}{DEV_PATH}"


def _check_request(asked: Mapping[str, str]) -> str:
    """The address to go back to; raises the 400 of a request for sign-in that is not one."""
    redirect_uri = asked.get("redirect_uri", "")
    if not _leads_to_loopback(redirect_uri):
        raise _wrong("redirect_uri is not an address on loopback")
    if asked.get("response_type") != "code":
        raise _wrong("response_type is not code")
    if not asked.get("client_id"):
        raise _wrong(f"client_id is missing; any will do, such as {DEV_CLIENT}")
    if asked.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(asked.get("code_challenge", "")):
        raise _wrong("code_challenge with code_challenge_method S256 is missing (PKCE)")
    return redirect_uri


def _leads_to_loopback(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return (
            parts.scheme in ("http", "https")
            and is_loopback(parts.hostname or "")
            and not parts.fragment
            and parts.username is None
            and address.isascii()
            and address.isprintable()
            and not re.search(r"[\s\\]", address)
        )
    except ValueError:
        return False


def _grant(form: Mapping[str, str]) -> DevGrant:
    subject, role = form.get("subject", "").strip(), form.get("role", "")
    depots = [one for one in re.split(r"[\s,]+", form.get("depots", "")) if one]
    gateway = form.get("gateway_id", "").strip()
    if not (0 < len(subject) <= _SUBJECT_LIMIT and subject.isprintable()):
        raise _wrong(f"say who you are, in at most {_SUBJECT_LIMIT} characters")
    if role not in DEV_ROLES:
        raise _wrong(f"role is not one of {', '.join(DEV_ROLES)}")
    if any(not _IDENTIFIER.fullmatch(one) for one in depots):
        raise _wrong("depots are ids, separated by commas; none for all")
    if (role == "device") != bool(gateway) or (gateway and not _IDENTIFIER.fullmatch(gateway)):
        raise _wrong("the role device, and no other, needs the id of its gateway")
    return DevGrant(subject, role, depots or None, gateway or None)


async def _form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _FORM_LIMIT:
            raise Problem(413, "CONTENT_TOO_LARGE", f"the form is longer than {_FORM_LIMIT} bytes")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=50))
    except ValueError:
        raise _wrong("the form can not be read") from None


def _wrong(detail: str) -> Problem:
    return Problem(400, "INVALID_SIGN_IN", detail)
