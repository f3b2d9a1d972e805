"""Each role on each route, as the table says."""

from __future__ import annotations

import re

import pytest

from proxy.admin.routes import ROUTES
from proxy.admin.routing import ROLES, Route

pytestmark = pytest.mark.slow

NOBODY = ("none", "revoked", "expired")
WRONG = {"none": "no-token", "revoked": "wrong-token", "expired": "token-expired"}


@pytest.fixture(scope="module")
def tokens(triage) -> dict[str, str | None]:
    made: dict[str, str | None] = {role: triage.make(role, role)[1] for role in ROLES}
    gone, made["revoked"] = triage.make("gone", "admin")
    assert triage.local("DELETE", f"/api/v1/tokens/{gone}").status == 204
    made["expired"] = triage.make("over", "admin", **{"for": 0.01})[1]
    made["none"] = None
    return made


def calls_of(route: Route) -> list[str]:
    """Its path with names of nothing; a GET with a parameter that is not there too, which does nothing at all."""
    path = re.sub(r"\{\w+\}", "nope", route.path)
    return [path, f"{path}?nonsense=1"] if route.method == "GET" and not route.open else [f"{path}?nonsense=1"]


@pytest.mark.parametrize("role", [*ROLES, *NOBODY])
def test_a_role_may_what_the_table_says_and_nothing_else(triage, tokens, role: str) -> None:
    for route in ROUTES:
        for path in calls_of(route):
            where = f"{role}: {route.method} {path}"
            body = {"nonsense": 1} if route.method in ("POST", "PUT", "PATCH") else None
            answer = triage.call(route.method, path, tokens[role], body, source=triage.elsewhere())
            assert answer.status < 500, (where, answer)
            if route.open:
                assert answer.status not in (401, 403), (where, answer)
            elif role in NOBODY:
                assert (answer.status, answer.kind) == (401, WRONG[role]), (where, answer)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer"), where
            elif ROLES.index(role) < ROLES.index(route.needs):
                assert (answer.status, answer.kind) == (403, "role-too-low"), (where, answer)
                assert route.needs in answer.value["title"] and answer.value["needs"] == route.needs, where
            else:
                assert answer.status != 401 and answer.kind != "role-too-low", (where, answer)
    assert "internal-error" not in triage.said() and "Traceback" not in triage.said()


def test_what_acts_needs_an_operator_and_tokens_an_admin() -> None:
    """The defaults, and those that were thought about (docs/security.md says why)."""
    needs = {(route.method, route.path): route.needs for route in ROUTES if not route.open}
    reading = {key for key in needs if key[0] != "GET" and needs[key] == "viewer"}
    assert reading == {("POST", "/api/v1/login-links")}
    for path in (
        "/api/v1/tokens", "/api/v1/upgrade", "/api/v1/vfs/{path}", "/api/v1/zip/{dir}", "/api/v1/command",
        "/api/v1/console", "/api/v1/consoles", "/api/v1/consoles/{id}",
    ):  # fmt: skip
        assert {role for (_, found), role in needs.items() if found == path} == {"admin"}, path
    assert {route.path for route in ROUTES if route.open} <= {"/healthz", "/readyz", "/login", "/logout"}


def test_a_login_may_what_its_token_may(triage, tokens) -> None:
    for role in ROLES:
        link = triage.call("POST", "/api/v1/login-links", tokens[role], {}).value["url"]
        code = link.rpartition("?")[2]
        for answer in (triage.call("POST", "/login", None, {"token": tokens[role]}),
                       triage.call("GET", f"/login?{code}")):  # fmt: skip
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
            found = triage.call("GET", "/api/v1/whoami", Cookie=cookie)
            assert found.status == 200 and (found.value["name"], found.value["role"]) == (role, role)
            assert found.value["way"] == "login, from 127.0.0.1" and found.value["expires"]
            origin = {"Cookie": cookie, "Origin": triage.admin}
            made = triage.call("POST", "/api/v1/tokens", None, {"name": "!", "role": "admin"}, **origin)
            assert made.status == (400 if role == "admin" else 403), (role, made)


def test_whoami_knows_every_way_in(triage, tokens) -> None:
    found = triage.local("GET", "/api/v1/whoami").value
    assert found["role"] == "admin" and found["name"].startswith("uid ") and found["way"].startswith("socket, uid ")
    found = triage.call("GET", "/api/v1/whoami", triage.token).value
    assert (found["name"], found["role"], found["way"]) == ("admin.token", "admin", "token, from 127.0.0.1")
    found = triage.call("GET", "/api/v1/whoami", tokens["viewer"]).value
    assert (found["name"], found["way"], found["expires"]) == ("viewer", "token viewer, from 127.0.0.1", None)


def test_memory_is_for_operators_alone(triage, tokens) -> None:
    for path in ("bundle?memory=true", "artifacts/memory_dump.core.gz", "artifacts/x/memory_dump.core.gz"):
        where = f"/api/v1/sessions/1/{path}"
        assert triage.call("GET", where, tokens["operator"]).status == 404
        answer = triage.call("GET", where, tokens["viewer"])
        assert answer.status in (403, 404), answer
    answer = triage.call("GET", "/api/v1/sessions/1/artifacts/memory_dump.core.gz", tokens["viewer"])
    assert (answer.status, answer.kind) == (403, "role-too-low")
    body = {"path": str(triage.config)}
    assert triage.call("POST", "/api/v1/config/check", tokens["operator"], body).kind == "role-too-low"
    assert triage.call("POST", "/api/v1/config/check", tokens["admin"], body).status == 200
