"""Who asks, and may they: the caller of a request as a `Principal`, and the rules that say which role a path needs.

Roles. `viewer` reads; `operator` may also replay and post status; `configurator` also change devices, bindings and limits;
`admin` also depots, circuits and resync: each includes those before it. `device` stands apart: it posts packets and status of
the gateway that its token names, and reads nothing. A caller may hold several roles and may then do what any of them allows;
roles that we do not know count for nothing. A rule names the role that suffices, or several of which one does; what has no rule
is refused.

Depots. A token lists the depots that its holder may see; `*` stands for all of them, and a token without the list sees none, so
that a claim that was forgotten at the issuer shows too little and never too much. Lists may come as JSON arrays or, from issuers
that know only texts, as one text with the values separated by spaces or commas. Another depot is answered as one that does not
exist: `may_see` tells, and who answers raises the same 404 as for an unknown one.

Answers. No token: 401 `UNAUTHENTICATED`. One that does not hold: 401 `TOKEN_EXPIRED` or `TOKEN_INVALID`. One that holds and does
not suffice: 403 `FORBIDDEN`. The issuer's keys can not be had: 503 `IDENTITY_PROVIDER_UNAVAILABLE`. No answer and no log line
repeats a token. With access off everyone is `EVERYONE`, who may do everything.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, cast, get_args

import structlog
from fastapi import Depends
from fastapi.security import HTTPBearer
from starlette.requests import Request

from service_runtime.access_tokens import AccessTokens, Claims, KeysUnavailable, TokenRefused, same_issuer
from service_runtime.dev_key import is_dev_issuer, load_dev_key
from service_runtime.issuer_keys import IssuerKeys
from service_runtime.problem import Problem
from service_runtime.settings import Settings

Role = Literal["device", "viewer", "operator", "configurator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

AccessRules = Mapping[str, Role | tuple[Role, ...]]
"""By method and path template (`GET /api/depot/{depot_id}`), the role that suffices, or several of which one does."""

GATEWAY_CLAIM = "gateway_id"
ALL_DEPOTS = "*"
_LADDER: tuple[Role, ...] = ("viewer", "operator", "configurator", "admin")
_IDENTIFIER = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SEPARATORS = re.compile(r"[\s,]+")
_REALM = 'Bearer realm="depotgrid"'
_RETRY_S = 5

_log = structlog.get_logger(__name__)

_Credentials = Annotated[
    object, Depends(HTTPBearer(auto_error=False, scheme_name="token", bearerFormat="JWT", description="an OIDC access token"))
]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request. `depots` are those they may see, None for all; `gateway_id` the gateway that a device speaks for.

    `expires_at` is when their token ends; `unchecked` marks everyone while access is off.
    """

    subject: str
    roles: frozenset[Role]
    depots: frozenset[str] | None
    gateway_id: str | None
    expires_at: datetime | None = None
    unchecked: bool = False

    def has(self, *roles: Role) -> bool:
        """Whether one of the roles is held, itself or within a wider one."""
        return any(self._holds(role) for role in roles)

    def may_see(self, depot_id: str | None) -> bool:
        """Whether a depot is one of theirs; what belongs to no depot (None) is for those who may see all."""
        return self.depots is None or (depot_id is not None and depot_id in self.depots)

    def may_post_packets_of(self, gateway_id: str) -> bool:
        """Whether packets of a gateway may come from them: from its own device only."""
        return self.unchecked or ("device" in self.roles and self.gateway_id == gateway_id)

    def may_post_status_of(self, gateway_id: str | None, depot_id: str) -> bool:
        """Whether a status that is said to come from a gateway of a depot may: from its own device, or an operator who sees it."""
        if self.has("operator") and self.may_see(depot_id):
            return True
        return gateway_id is not None and self.may_post_packets_of(gateway_id)

    def _holds(self, role: Role) -> bool:
        if role in self.roles or role not in _LADDER:
            return role in self.roles
        return not self.roles.isdisjoint(_LADDER[_LADDER.index(role) :])


EVERYONE = Principal("everyone", frozenset(ROLES), None, None, unchecked=True)
"""Whoever asks while access is off."""


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Under which names an issuer tells roles and depots."""

    roles: str = "roles"
    depots: str = "depots"


Dependency = Callable[..., Awaitable[Principal]]


class Access:
    """Decides about requests. `tokens` checks their access tokens; None lets everyone do everything."""

    def __init__(self, tokens: AccessTokens | None, names: ClaimNames | None = None, *, caution: str | None = None) -> None:
        self._tokens = tokens
        self._names = names or ClaimNames()
        self._caution = caution

    def announce(self) -> None:
        """Say in the log where access protects nothing."""
        if self._caution is not None:
            _log.warning(self._caution)

    def require(self, *roles: Role) -> Dependency:
        """A FastAPI dependency that gives the principal, who has one of the roles; raises the 401, 403 or 503 otherwise.

        `caller: Annotated[Principal, Depends(access.require("operator"))]`, or in a router's `dependencies` with `principal_of`.
        """
        if not roles:
            raise ValueError("name the roles of which one suffices")

        async def required(request: Request, _: _Credentials) -> Principal:
            return _with_role(await self.authenticate(request), roles)

        return required

    def enforce(self, rules: AccessRules) -> Dependency:
        """A FastAPI dependency for all routers of an app: every request needs the role that the table says for its route."""

        async def enforced(request: Request, _: _Credentials) -> Principal:
            principal = await self.authenticate(request)
            allowed = rules.get(f"{request.method} {request.scope['route'].path}", ())
            return _with_role(principal, (allowed,) if isinstance(allowed, str) else allowed)

        return enforced

    async def authenticate(self, request: Request) -> Principal:
        """Who makes the request, told once per request; raises the 401 or 503 where that can not be said."""
        known: object = getattr(request.state, "principal", None)
        if isinstance(known, Principal):
            return known
        principal = EVERYONE if self._tokens is None else await self._by_token(self._tokens, request)
        request.state.principal = principal
        return principal

    async def _by_token(self, tokens: AccessTokens, request: Request) -> Principal:
        given = request.headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if given else ("", "", "")
        if len(given) > 1:
            raise _refused("TOKEN_INVALID", "the request has several Authorization headers; send one")
        if scheme.lower() != "bearer" or not token.strip():
            headers = {"WWW-Authenticate": _REALM}
            raise Problem(401, "UNAUTHENTICATED", "send an access token in the header Authorization: Bearer …", headers=headers)
        match await tokens.check(token.strip()):
            case TokenRefused(code=code, reason=reason):
                raise _refused(code, reason)
            case KeysUnavailable():
                detail = "access tokens can not be checked at the moment: their issuer does not give its keys"
                raise Problem(503, "IDENTITY_PROVIDER_UNAVAILABLE", detail, headers={"Retry-After": str(_RETRY_S)})
            case Claims() as claims:
                return principal_from(claims, self._names)


def principal_of(request: Request) -> Principal:
    """The principal of a request that `require` or `enforce` let in; usable as a FastAPI dependency."""
    principal: object = getattr(request.state, "principal", None)
    if not isinstance(principal, Principal):
        raise RuntimeError(f"no access rule was applied to {request.method} {request.url.path}")
    return principal


def open_access(settings: Settings, clock: Callable[[], datetime]) -> Access:
    """Access as the settings ask for it; `clock` gives aware times. Call `announce` once the process can start.

    Raises `DevKeyFault` when the local issuer's key can not be had.
    """
    if settings.auth == "off":
        return Access(None, caution="access tokens are not checked: whoever is on this machine may do everything")
    if settings.auth == "dev":
        key = load_dev_key(settings.dev_key_file)
        return Access(
            AccessTokens(key.find, is_dev_issuer, clock),
            caution="access tokens come from the local issuer: whoever is on this machine can have any",
        )
    if settings.oidc_issuer is None:
        raise ValueError("auth is oidc, and no issuer is set")
    tokens = AccessTokens(
        IssuerKeys(settings.oidc_issuer, clock).find, same_issuer(settings.oidc_issuer), clock, settings.oidc_audience
    )
    return Access(tokens, ClaimNames(settings.oidc_roles_claim, settings.oidc_depots_claim))


def principal_from(claims: Claims, names: ClaimNames) -> Principal:
    """The principal that the claims of a checked token tell."""
    told = _listed(claims.values.get(names.roles))
    depots = frozenset(_listed(claims.values.get(names.depots)))
    gateway: object = claims.values.get(GATEWAY_CLAIM)
    return Principal(
        subject=claims.subject,
        roles=frozenset[Role](role for role in ROLES if role in told),
        depots=None if ALL_DEPOTS in depots else frozenset(filter(_IDENTIFIER.fullmatch, depots)),
        gateway_id=gateway if isinstance(gateway, str) and _IDENTIFIER.fullmatch(gateway) else None,
        expires_at=datetime.fromtimestamp(claims.expires_at_s, UTC),
    )


def _listed(claim: object) -> list[str]:
    if isinstance(claim, str):
        return [part for part in _SEPARATORS.split(claim) if part]
    return [one for one in cast("list[object]", claim) if isinstance(one, str)] if isinstance(claim, list) else []


def _with_role(principal: Principal, roles: tuple[Role, ...]) -> Principal:
    if principal.unchecked or principal.has(*roles):
        return principal
    needed = f"needs the role {' or '.join(roles)}" if roles else "is open to nobody"
    held = f"the token has {', '.join(sorted(principal.roles))}" if principal.roles else "the token has none that is known here"
    headers = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope"'}
    raise Problem(403, "FORBIDDEN", f"this {needed}; {held}", headers=headers)


def _refused(code: str, reason: str) -> Problem:
    headers = {"WWW-Authenticate": f'{_REALM}, error="invalid_token", error_description="{reason}"'}
    return Problem(401, code, f"the access token is not accepted: {reason}", headers=headers)
