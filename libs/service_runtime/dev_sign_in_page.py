"""The page of the local issuer, on which a person chooses who to be, and the one that shows a token for the shell."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

DEV_ROLES = ("viewer", "operator", "configurator", "admin", "device")

_ALLOWED = {
    "viewer": "looks",
    "operator": "also replays and posts status",
    "configurator": "also changes devices, bindings and limits",
    "admin": "also changes depots and circuits, and resyncs",
    "device": "posts packets of one gateway, and nothing else",
}

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Depotgrid: sign in for development</title>
<style>
:root {{ color-scheme: light dark; font: 100%/1.5 system-ui, sans-serif; }}
body {{ max-width: 32rem; margin: 3rem auto; padding: 0 1rem; }}
label, legend {{ display: block; margin-top: 1rem; font-weight: 600; }}
small {{ display: block; font-weight: 400; }}
input, select, textarea, button {{ font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; }}
textarea {{ font-family: ui-monospace, monospace; height: 12rem; }}
button {{ margin-top: 1.5rem; cursor: pointer; }}
.note {{ border-left: .25rem solid #c60; padding-left: .75rem; }}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_FORM = """<h1>Sign in for development</h1>
<p class="note">This is the local issuer: no password, and whoever can open this page can be anyone. It is here because
Depotgrid runs with <code>DEPOTGRID_AUTH=dev</code>.</p>
<form method="post" action="/auth/dev/authorize">
{hidden}
<label for="subject">Who are you?</label>
<input id="subject" name="subject" value="dev" required maxlength="64" autocomplete="username">
<label for="role">Role</label>
<select id="role" name="role">
{roles}
</select>
<label for="depots">Depots <small>ids, separated by commas; empty for all</small></label>
<input id="depots" name="depots" autocomplete="off">
<label for="gateway">Gateway <small>its id, for the role device only</small></label>
<input id="gateway" name="gateway_id" maxlength="64" autocomplete="off">
<button type="submit">{submit}</button>
</form>"""

_READY = """<h1>Your token</h1>
<p>Good for eight hours. Send it as <code>Authorization: Bearer …</code>.</p>
<label for="token">Access token</label>
<textarea id="token" readonly>{token}</textarea>
<p><a href="/auth/dev">Another one</a></p>"""


def sign_in_page(asked: Mapping[str, str]) -> str:
    """The form, which carries on what a client asked for; nothing of it when no client did."""
    hidden = "\n".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in asked.items())
    roles = "\n".join(f'<option value="{role}">{role}: {_ALLOWED[role]}</option>' for role in DEV_ROLES)
    return _FRAME.format(body=_FORM.format(hidden=hidden, roles=roles, submit="Sign in" if asked else "Show me a token"))


def token_page(token: str) -> str:
    """A token to copy."""
    return _FRAME.format(body=_READY.format(token=escape(token)))
