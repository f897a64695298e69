"""The local issuer signs in whoever asks on this machine, by the rules of the flow that pages use elsewhere, too."""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from starlette.applications import Starlette
from tests.service_runtime.identity import Clock, keys_of

from service_runtime.access import ClaimNames, Principal, principal_from
from service_runtime.access_tokens import AccessTokens, Claims, TokenRefused
from service_runtime.dev_issuer import CODE_TTL, dev_issuer_routes
from service_runtime.dev_key import DevKey, is_dev_issuer, load_dev_key
from service_runtime.problem import Problem, answer

_VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
_CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # of that verifier, RFC 7636, appendix B
_BACK = "http://localhost:5173/signed-in?page=1"
_REQUEST = {
    "response_type": "code",
    "client_id": "pages",
    "redirect_uri": _BACK,
    "code_challenge": _CHALLENGE,
    "code_challenge_method": "S256",
    "state": "s&t=1",
    "nonce": "n",
    "scope": "openid",
}
_CHOICE = {"subject": "ada", "role": "operator", "depots": "d-1, d-2", "gateway_id": ""}


class Browser:
    """Signs in at the issuer."""

    def __init__(self, http: httpx2.AsyncClient, key: DevKey, clock: Clock) -> None:
        self.http = http
        self.key = key
        self.clock = clock

    async def code(self, **changed: str) -> str:
        """The code of a sign-in."""
        answered = await self.http.post("/auth/dev/authorize", data={**_REQUEST, **_CHOICE, **changed})
        assert answered.status_code == 303, answered.text
        return parse_qs(urlsplit(answered.headers["location"]).query)["code"][0]

    async def redeem(self, code: str, /, **changed: str) -> httpx2.Response:
        """The answer of the token endpoint to a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": "pages",
            "redirect_uri": _BACK,
            "code_verifier": _VERIFIER,
        }
        return await self.http.post("/auth/dev/token", data={**form, **changed})

    async def principal(self, token: str) -> Principal:
        """Who a token of the issuer is."""
        checked = await AccessTokens(keys_of(json.dumps(self.key.jwks).encode()), is_dev_issuer, self.clock).check(token)
        assert isinstance(checked, Claims)
        return principal_from(checked, ClaimNames())


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    def raised(request: Any, fault: Any) -> Any:
        return answer(fault, request.url.path)

    key, clock = load_dev_key(tmp_path / "key.json"), Clock()
    app = Starlette(routes=[*dev_issuer_routes(key, clock)], exception_handlers={Problem: raised})
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost:8080") as http:
        yield Browser(http, key, clock)


async def test_a_page_signs_in_with_a_code_and_the_verifier_of_its_challenge(browser: Browser) -> None:
    page = await browser.http.get("/auth/dev/authorize", params=_REQUEST)
    assert page.status_code == 200
    carried = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
    assert {name: html.unescape(value) for name, value in carried.items()} == _REQUEST
    answered = await browser.http.post("/auth/dev/authorize", data={**_REQUEST, **_CHOICE})
    where = urlsplit(answered.headers["location"])
    assert where._replace(query="").geturl() == "http://localhost:5173/signed-in"
    back = parse_qs(where.query)
    assert (back["page"], back["state"], back["iss"]) == (["1"], ["s&t=1"], ["http://localhost:8080/auth/dev"])
    told = (await browser.redeem(back["code"][0])).json()
    assert (told["token_type"], told["expires_in"]) == ("Bearer", 8 * 3600)
    principal = await browser.principal(told["access_token"])
    assert (principal.subject, principal.roles, principal.depots) == ("ada", {"operator"}, {"d-1", "d-2"})


async def test_its_identity_token_says_who_signed_in_and_opens_nothing(browser: Browser) -> None:
    told = (await browser.redeem(await browser.code())).json()
    tokens = AccessTokens(browser.key.find, is_dev_issuer, browser.clock)
    assert isinstance(await tokens.check(told["id_token"]), TokenRefused)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_grant"),
        ({"code_verifier": _CHALLENGE}, "invalid_grant"),
        ({"code_verifier": _VERIFIER + "ä"}, "invalid_grant"),
        ({"code": "invented"}, "invalid_grant"),
        ({"client_id": "others"}, "invalid_grant"),
        ({"redirect_uri": "http://localhost:5173/"}, "invalid_grant"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
async def test_a_code_is_worth_nothing_with_anything_else_than_what_it_was_made_for(
    browser: Browser, changed: dict[str, str], error: str
) -> None:
    answered = await browser.redeem(await browser.code(), **changed)
    assert (answered.status_code, answered.json()["error"]) == (400, error)
    assert answered.headers["cache-control"] == "no-store"


async def test_a_code_is_good_once_also_after_a_wrong_verifier(browser: Browser) -> None:
    code = await browser.code()
    assert (await browser.redeem(code)).status_code == 200
    assert (await browser.redeem(code)).status_code == 400
    code = await browser.code()
    assert (await browser.redeem(code, code_verifier="x" * 43)).status_code == 400
    assert (await browser.redeem(code)).status_code == 400


async def test_a_code_is_good_for_a_minute(browser: Browser) -> None:
    early, late = await browser.code(), await browser.code()
    browser.clock.turn(CODE_TTL.total_seconds() - 1)
    assert (await browser.redeem(early)).status_code == 200
    browser.clock.turn(1)
    assert (await browser.redeem(late)).status_code == 400


async def test_only_the_last_hundred_codes_are_kept(browser: Browser) -> None:
    first = await browser.code()
    kept = [await browser.code() for _ in range(100)]
    assert (await browser.redeem(first)).status_code == 400
    assert (await browser.redeem(kept[0])).status_code == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": "http://localhost.evil.example/"},
        {"redirect_uri": "http://localhost:80@evil.example/"},
        {"redirect_uri": "http://ada@localhost/"},
        {"redirect_uri": "http://localhost\\@evil.example/"},
        {"redirect_uri": "http://localhost/#there"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": "//localhost/"},
        {"redirect_uri": ""},
        {"response_type": "token"},
        {"client_id": ""},
        {"code_challenge_method": "plain"},
        {"code_challenge": ""},
        {"code_challenge": "short"},
    ],
)
async def test_a_request_that_is_not_safe_leads_nowhere(browser: Browser, changed: dict[str, str]) -> None:
    asked = await browser.http.get("/auth/dev/authorize", params={**_REQUEST, **changed})
    chosen = await browser.http.post("/auth/dev/authorize", data={**_REQUEST, **_CHOICE, **changed})
    for answered in (asked, chosen):
        assert (answered.status_code, answered.json()["code"]) == (400, "INVALID_SIGN_IN")
        assert "location" not in answered.headers


@pytest.mark.parametrize(
    "changed",
    [
        {"subject": " "},
        {"subject": "x" * 65},
        {"subject": "a\nb"},
        {"role": "emperor"},
        {"role": ""},
        {"role": "device"},
        {"role": "device", "gateway_id": "a b"},
        {"role": "viewer", "gateway_id": "gw-1"},
        {"depots": "d-1, *"},
        {"depots": "d/1"},
    ],
)
async def test_a_choice_that_nobody_can_be_is_refused(browser: Browser, changed: dict[str, str]) -> None:
    answered = await browser.http.post("/auth/dev/authorize", data={**_CHOICE, **changed})
    assert (answered.status_code, answered.json()["code"]) == (400, "INVALID_SIGN_IN")


async def test_without_a_client_the_page_shows_a_token_for_the_shell(browser: Browser) -> None:
    assert (await browser.http.get("/auth/dev")).status_code == 200
    form = {"subject": "gw", "role": "device", "depots": "", "gateway_id": "gw-1"}
    shown = await browser.http.post("/auth/dev/authorize", data=form)
    (made,) = re.findall(r"<textarea[^>]*>([^<]+)</textarea>", shown.text)
    principal = await browser.principal(made)
    assert (principal.subject, principal.roles, principal.depots, principal.gateway_id) == ("gw", {"device"}, None, "gw-1")
    assert shown.headers["cache-control"] == "no-store"


async def test_nothing_of_a_request_becomes_markup_and_no_page_can_be_framed(browser: Browser) -> None:
    page = await browser.http.get("/auth/dev", params={**_REQUEST, "state": '"><script>alert(1)</script>'})
    assert "<script" not in page.text
    assert page.headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8080", "192.168.1.2", "[broken", ""])
@pytest.mark.parametrize("path", ["", "/authorize", "/jwks.json", "/.well-known/openid-configuration"])
async def test_a_request_that_names_another_host_than_loopback_gets_nothing(browser: Browser, host: str, path: str) -> None:
    answered = await browser.http.get(f"/auth/dev{path}", headers={"Host": host})
    assert answered.status_code == 421


async def test_its_configuration_leads_to_its_endpoints_and_keys(browser: Browser) -> None:
    told = (await browser.http.get("/auth/dev/.well-known/openid-configuration")).json()
    assert told["issuer"] == "http://localhost:8080/auth/dev"
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert (await browser.http.get(told["jwks_uri"])).json() == browser.key.jwks
    assert (await browser.http.get(told["authorization_endpoint"])).status_code == 200
    assert (await browser.http.post(told["token_endpoint"])).status_code == 400


async def test_a_form_has_a_bound(browser: Browser) -> None:
    assert (await browser.http.post("/auth/dev/token", data={"code": "x" * 20_000})).status_code == 413
    assert (await browser.http.post("/auth/dev/token", content=b"\xff\xfe")).status_code == 400
