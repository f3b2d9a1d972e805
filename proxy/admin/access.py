"""Routes of access: who I am, and the tokens that there are."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from proxy.admin import query, views
from proxy.admin.callers import ADMIN_TOKEN, Caller
from proxy.admin.common import answer, items
from proxy.admin.errors import ApiProblem
from proxy.admin.fields import Field
from proxy.admin.keys import GATEWAY, LOGINS, TOKENS, UNDER_WAY
from proxy.admin.params import WHOLE_PAGE
from proxy.admin.routing import Route
from proxy.admin.tokens import FILE, Refused, Token, Tokens, good_name


async def whoami(request: web.Request) -> web.Response:
    """Of the caller itself, whatever its role."""
    caller: Caller = request["caller"]
    return answer(
        {
            "name": caller.name, "role": caller.role, "way": caller.way, "expires": _time(caller.expires),
            "console": request.app[GATEWAY].config.admin.console,
        }
    )  # fmt: skip


async def tokens(request: web.Request) -> web.Response:
    """All of them, without what would let anybody in."""
    known = request.app[TOKENS]
    await known.look_again()
    if known.damage:
        raise _problem(Refused("damaged", known.damage))
    found = list(known.all())
    at, to, following = query.window(request, [one.id for one in found])
    return items([_shown(known, one) for one in found[at:to]], following)


async def make(request: web.Request) -> web.Response:
    """201 with the token itself, this once."""
    body, known, caller = request["body"], request.app[TOKENS], request["caller"]
    name, role = body.get("name", ""), body.get("role")
    if not good_name(name):
        raise ApiProblem(
            400, "bad-field", "name cannot be that",
            "It has 1 to 60 letters, digits and . _ @ -, the first a letter or digit; admin.token is taken.",
            'Send {"name": "ci", "role": "operator"}.',
        )  # fmt: skip
    if role is None:
        raise ApiProblem(
            400, "bad-field", "role is missing", "It is viewer, operator or admin.",
            'Send {"name": "ci", "role": "operator"}.',
        )  # fmt: skip
    await known.look_again()
    try:
        token, text = await known.make(name, role, body.get("for"), caller.name)
    except Refused as refused:
        raise _problem(refused) from None
    request["did"] = f"token {token.id}, {name}, {role}"
    response = answer({**_shown(known, token), "token": text}, 201)
    response.headers["Location"] = f"/api/v1/tokens/{token.id}"
    return response


async def revoke(request: web.Request) -> web.Response:
    """204: refused from now on, and what it has open is cut."""
    known, id = request.app[TOKENS], request.match_info["id"]
    if id == ADMIN_TOKEN:
        raise ApiProblem(
            409, "admin-token", "This token is a file", f"It is {ADMIN_TOKEN} in the data folder.",
            "Delete the file and restart Triage: a new one is made.",
        )  # fmt: skip
    await known.look_again()
    found = known.named(id)
    if found is None:
        if known.damage:
            raise _problem(Refused("damaged", known.damage))
        raise ApiProblem(
            404, "no-such-token", f"There is no token {id[:60]!r}", hint="GET /api/v1/tokens lists those there are."
        )
    request["did"] = f"token {found.id}, {found.name}, {found.role}"
    try:
        await known.revoke(found.id)
    except Refused as refused:
        raise _problem(refused, "It is refused until Triage restarts, and would be taken again then.") from None
    finally:
        request.app[LOGINS].end_of(found.id)
        request.app[UNDER_WAY].end(lambda caller: caller.token == found.id)
    return web.Response(status=204)


def _shown(known: Tokens, token: Token) -> dict[str, Any]:
    row = known.shown(token)
    return {**row, **{name: _time(row[name]) for name in ("made", "expires", "last_used")}}


def _time(at: float | None) -> str | None:
    return views.iso(at) if at is not None else None


def _problem(refused: Refused, also: str = "") -> ApiProblem:
    status, hint = {
        "damaged": (503, f"Mend {FILE} or put a copy back, or remove it and make the tokens anew."),
        "not-saved": (503, "Make room on the disk of data_dir, and try again."),
        "name-taken": (409, "Take another name, or revoke that one first."),
        "too-many": (409, "Revoke those that nobody needs."),
    }[refused.kind]
    return ApiProblem(status, f"tokens-{refused.kind}", str(refused), also, hint)


TOKEN: Final[dict[str, Any]] = {
    "id": "3f9c21ab", "name": "ci", "role": "operator", "made": "2026-01-05T03:07:41.000Z",
    "expires": "2026-04-05T03:07:41.000Z", "expired": False, "last_used": "2026-01-05T08:12:01.512Z",
    "last_from": "10.0.0.7", "by": "uid 0",
}  # fmt: skip

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET", "/api/v1/whoami", whoami, "Who is asking, and what it may.",
        {"name": "ci", "role": "operator", "way": "token ci, from 10.0.0.7", "expires": "2026-04-05T03:07:41.000Z",
         "console": False},
    ),
    Route(
        "GET", "/api/v1/tokens", tokens,
        "All tokens, with who made them and when they were last used; never their text.",
        {"items": [TOKEN], "next": None}, role="admin", params=WHOLE_PAGE, errors=(503,),
    ),
    Route(
        "POST", "/api/v1/tokens", make, "Make one. Its text is in this answer, and nowhere else afterwards.",
        {**TOKEN, "last_used": None, "last_from": "", "token": "triage_3f9c21ab_…"}, status=201, role="admin",
        errors=(503,),
        body={
            "name": Field("what it is for: letters, digits and . _ @ -, 60 at most", required=True),
            "role": Field("viewer: may look; operator: may act; admin: may everything", "role", required=True),
            "for": Field('expires after so long ("90d", or seconds); default: never', "duration"),
            "reason": Field("why, for the events; default: by hand", "reason"),
        },
    ),
    Route(
        "DELETE", "/api/v1/tokens/{id}", revoke,
        "Revoke one, by id or name: 204. Its streams and terminals end at once, and so do logins made with it.",
        None, status=204, role="admin", errors=(503,),
    ),
)  # fmt: skip
