"""Who asks is told by their token, and what they may do by their roles, depots and gateway."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI
from tests.service_runtime.identity import ISSUER, NOW, OTHER_RSA_KEY, Clock, claims, jwks, keys_of, signed, token

from service_runtime.access import (
    EVERYONE,
    ROLES,
    Access,
    AccessRules,
    ClaimNames,
    Principal,
    Role,
    open_access,
    principal_from,
    principal_of,
)
from service_runtime.access_tokens import AccessTokens, Claims, KeysUnavailable, same_issuer
from service_runtime.logs import configure_logging
from service_runtime.problem import install_problem_answers
from service_runtime.settings import Settings

_RULES: AccessRules = {"GET /ruled/{thing}": "operator", "POST /ruled/{thing}": ("device", "configurator")}


def _app(access: Access) -> FastAPI:
    app = FastAPI()

    async def told(principal: Annotated[Principal, Depends(principal_of)]) -> str:
        return principal.subject

    for role in ROLES:
        app.get(f"/role/{role}", dependencies=[Depends(access.require(role))])(told)
    app.get("/status", dependencies=[Depends(access.require("device", "operator"))])(told)
    for path in ("/ruled/{thing}", "/unruled"):
        app.api_route(path, methods=["GET", "POST"], dependencies=[Depends(access.enforce(_RULES))])(told)
    install_problem_answers(app)
    return app


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    access = Access(AccessTokens(keys_of(jwks()), same_issuer(ISSUER), Clock()))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=_app(access)), base_url="http://depotgrid") as client:
        yield client


def _bearer(given: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {given}"}


@pytest.mark.parametrize(
    ("held", "opened"),
    [
        ("viewer", {"viewer"}),
        ("operator", {"viewer", "operator"}),
        ("configurator", {"viewer", "operator", "configurator"}),
        ("admin", {"viewer", "operator", "configurator", "admin"}),
        ("device", {"device"}),
        ("janitor", set[str]()),
        ("Admin", set[str]()),
    ],
)
async def test_a_role_opens_what_it_includes_and_nothing_else(http: httpx2.AsyncClient, held: str, opened: set[str]) -> None:
    for role in ROLES:
        answered = await http.get(f"/role/{role}", headers=_bearer(token(roles=[held])))
        assert answered.status_code == (200 if role in opened else 403), role
        if role not in opened:
            assert (answered.headers["content-type"], answered.json()["code"]) == ("application/problem+json", "FORBIDDEN")
            assert 'error="insufficient_scope"' in answered.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("held", "status"),
    [("device", 200), ("operator", 200), ("admin", 200), ("viewer", 403), (["viewer", "device"], 200), ([], 403)],
)
async def test_of_several_roles_one_suffices(http: httpx2.AsyncClient, held: object, status: int) -> None:
    assert (await http.get("/status", headers=_bearer(token(roles=held)))).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "held", "status"),
    [
        ("GET", "/ruled/x", "operator", 200),
        ("GET", "/ruled/x", "viewer", 403),
        ("POST", "/ruled/x", "operator", 403),
        ("POST", "/ruled/x", "device", 200),
        ("POST", "/ruled/x", "admin", 200),
        ("GET", "/unruled", "admin", 403),
        ("POST", "/unruled", "admin", 403),
    ],
)
async def test_a_table_says_the_role_of_each_route_and_what_is_not_in_it_is_open_to_nobody(
    http: httpx2.AsyncClient, method: str, path: str, held: str, status: int
) -> None:
    assert (await http.request(method, path, headers=_bearer(token(roles=held)))).status_code == status


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "UNAUTHENTICATED"),
        ([("Authorization", "Basic YTpi")], "UNAUTHENTICATED"),
        ([("Authorization", "Bearer")], "UNAUTHENTICATED"),
        ([("Authorization", "Bearer  ")], "UNAUTHENTICATED"),
        ([("Authorization", token())], "UNAUTHENTICATED"),
        ([("Authorization", f"Bearer {token()}"), ("Authorization", f"Bearer {token()}")], "TOKEN_INVALID"),
        ([("Authorization", f"Bearer {token(exp=1)}")], "TOKEN_EXPIRED"),
        ([("Authorization", f"Bearer {token(iss='https://other.example')}")], "TOKEN_INVALID"),
        ([("Authorization", f"Bearer {signed(claims(), key=OTHER_RSA_KEY)}")], "TOKEN_INVALID"),
        ([("Authorization", f"bearer {token()}")], None),
        ([("Authorization", f"BEARER   {token()} ")], None),
    ],
)
async def test_without_a_token_that_holds_the_answer_is_401_and_says_what_to_send(
    http: httpx2.AsyncClient, headers: list[tuple[str, str]], code: str | None
) -> None:
    for path in ("/role/viewer", "/ruled/x", "/unruled"):
        answered = await http.get(path, headers=headers)
        if code is None:
            assert answered.status_code in (200, 403)
            continue
        assert (answered.status_code, answered.json()["code"]) == (401, code)
        assert answered.headers["content-type"] == "application/problem+json"
        assert answered.headers["www-authenticate"].startswith('Bearer realm="depotgrid"')
        assert ('error="invalid_token"' in answered.headers["www-authenticate"]) == code.startswith("TOKEN_")


async def test_an_issuer_that_gives_no_keys_is_503_and_lets_nobody_in() -> None:
    async def none(_: str | None) -> KeysUnavailable:
        return KeysUnavailable()

    app = _app(Access(AccessTokens(none, same_issuer(ISSUER), Clock())))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://depotgrid") as http:
        answered = await http.get("/role/viewer", headers=_bearer(token()))
    assert (answered.status_code, answered.json()["code"]) == (503, "IDENTITY_PROVIDER_UNAVAILABLE")
    assert answered.headers["retry-after"] == "5"


async def test_with_access_off_everyone_may_do_everything() -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=_app(Access(None))), base_url="http://depotgrid") as http:
        for path in (*(f"/role/{role}" for role in ROLES), "/status", "/ruled/x"):
            assert (await http.get(path)).json() == "everyone"
    assert EVERYONE.may_see("any")
    assert EVERYONE.may_see(None)
    assert EVERYONE.may_post_packets_of("any")
    assert EVERYONE.may_post_status_of(None, "any")


@pytest.mark.parametrize(
    ("claim", "roles"),
    [
        (["viewer", "operator"], {"viewer", "operator"}),
        ("viewer operator", {"viewer", "operator"}),
        ("viewer,operator", {"viewer", "operator"}),
        (" viewer ,  admin ", {"viewer", "admin"}),
        (["viewer", 7, None, "janitor"], {"viewer"}),
        (["viewer operator"], set[str]()),
        ({"admin": True}, set[str]()),
        (True, set[str]()),
        (None, set[str]()),
    ],
)
def test_roles_are_a_list_or_a_text_and_unknown_ones_count_for_nothing(claim: object, roles: set[str]) -> None:
    assert _principal(roles=claim).roles == roles


@pytest.mark.parametrize(
    ("claim", "sees_d1", "sees_what_is_of_none"),
    [
        (["d-1"], True, False),
        (["d-2"], False, False),
        ("d-1,d-2", True, False),
        ("d-1 d-2", True, False),
        ("d-10", False, False),
        ("*", True, True),
        (["*"], True, True),
        (["d-2", "*"], True, True),
        ("d-*", False, False),
        ([], False, False),
        ("", False, False),
        (None, False, False),
        (True, False, False),
        (["d-1\0"], False, False),
    ],
)
def test_depots_are_those_listed_all_for_a_star_and_none_without_a_claim(
    claim: object, *, sees_d1: bool, sees_what_is_of_none: bool
) -> None:
    principal = _principal(depots=claim)
    assert (principal.may_see("d-1"), principal.may_see(None)) == (sees_d1, sees_what_is_of_none)


@pytest.mark.parametrize(
    ("told", "packets_of_gw1", "status_of_gw1_in_d1", "status_of_nobody_in_d1"),
    [
        ({"roles": "device", "gateway_id": "gw-1"}, True, True, False),
        ({"roles": "device", "gateway_id": "gw-2"}, False, False, False),
        ({"roles": "device"}, False, False, False),
        ({"roles": "device", "gateway_id": "*"}, False, False, False),
        ({"roles": "device", "gateway_id": ["gw-1"]}, False, False, False),
        ({"roles": "viewer", "gateway_id": "gw-1"}, False, False, False),
        ({"roles": "operator", "depots": "d-1"}, False, True, True),
        ({"roles": "operator", "depots": "d-2"}, False, False, False),
        ({"roles": "operator", "depots": "d-2", "gateway_id": "gw-1"}, False, False, False),
        ({"roles": "admin", "depots": "*"}, False, True, True),
        ({"roles": "device operator", "depots": "d-2", "gateway_id": "gw-1"}, True, True, False),
    ],
)
def test_a_gateway_is_spoken_for_by_its_device_and_a_status_also_posted_by_an_operator_of_the_depot(
    told: dict[str, Any], *, packets_of_gw1: bool, status_of_gw1_in_d1: bool, status_of_nobody_in_d1: bool
) -> None:
    principal = _principal(**{"depots": None, **told})
    assert principal.may_post_packets_of("gw-1") == packets_of_gw1
    assert principal.may_post_status_of("gw-1", "d-1") == status_of_gw1_in_d1
    assert principal.may_post_status_of(None, "d-1") == status_of_nobody_in_d1


def test_claims_are_found_under_the_names_that_are_set() -> None:
    told = Claims("ada", NOW.timestamp(), {"cognito:groups": ["operator"], "custom:depots": "d-1,d-2", "roles": ["admin"]})
    principal = principal_from(told, ClaimNames("cognito:groups", "custom:depots"))
    assert principal == Principal("ada", frozenset[Role]({"operator"}), frozenset({"d-1", "d-2"}), None, NOW)


def test_an_open_door_is_named_in_the_log_and_a_closed_one_is_not(tmp_path: Path, logged: io.StringIO) -> None:
    clock = Clock()
    open_access(_settings(auth="oidc", oidc_issuer=ISSUER), clock).announce()
    assert logged.getvalue() == ""
    open_access(_settings(auth="off"), clock).announce()
    assert "access tokens are not checked" in logged.getvalue()
    open_access(_settings(auth="dev", dev_key_file=tmp_path / "key.json"), clock).announce()
    assert "access tokens come from the local issuer" in logged.getvalue()


async def test_no_token_stands_in_any_answer_or_log_line(http: httpx2.AsyncClient, logged: io.StringIO) -> None:
    for given in (token(), token(exp=1), token(roles=[]), signed(claims(), key=OTHER_RSA_KEY), "secret.secret.secret"):
        answered = await http.get("/role/admin", headers=_bearer(given))
        told = answered.text + str(answered.headers) + logged.getvalue()
        assert not [part for part in given.split(".") if part in told]


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logging("test", level="DEBUG", style="json", stream=stream)
    yield stream
    logging.getLogger().handlers.clear()


def _settings(**values: object) -> Settings:
    return Settings.model_validate(values)


def _principal(**told: Any) -> Principal:
    given = claims(**told)
    return principal_from(Claims("ada", (NOW + timedelta(minutes=1)).timestamp(), given), ClaimNames())
