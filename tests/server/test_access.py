"""Who may do what."""

import pytest

from statehold import ConfigError
from statehold.config import Config, ServerConfig
from statehold.server import run

from .conftest import BOTH, KEYS, METRICS, READ, SHOP, WRITE

NOBODY, WRONG = None, "w" * 23 + "x"
COMMIT = ("POST", "/v1/chat/a/commit", {"turns": {"add": 1}})
RETURNING = ("POST", "/v1/chat/a/commit?returning=turns", {"turns": {"add": 1}})
BATCH_READ = ("POST", "/v1/chat/batch", {"read": {"ids": ["a"]}})
BATCH_COMMIT = ("POST", "/v1/chat/batch", {"commit": [{"id": "a", "changes": {}}]})
GET, LIST, INDEX, OPENAPI = (
    ("GET", path, None) for path in ("/v1/chat/a", "/v1/chat", "/v1", "/openapi.json")
)
DELETE, COUNTS = ("DELETE", "/v1/chat/zz", None), ("GET", "/metrics", None)
WATCH = ("GET", "/v1/chat/a/watch?tail=0", None)  # wrong on purpose: it would not end
OPEN = [("GET", path, None) for path in ("/healthz", "/readyz", "/", "/console.js")]

READING, WRITING = [GET, LIST, INDEX, OPENAPI, BATCH_READ, WATCH], [COMMIT, DELETE, BATCH_COMMIT]


def ask(client, what, key, **headers):
    method, path, body = what
    given = {} if key is None else {"Authorization": f"Bearer {key}"}
    return client.request(method, path, json=body, headers=given | headers)


@pytest.mark.parametrize(
    ("key", "status", "asked"),
    [
        *((key, 401, what) for key in (NOBODY, WRONG, "") for what in [*READING, *WRITING, COUNTS]),
        *((READ, 403, what) for what in [*WRITING, RETURNING, COUNTS]),
        *((WRITE, 403, what) for what in [*READING, RETURNING, COUNTS]),
        *((METRICS, 403, what) for what in [*READING, *WRITING]),
        *((READ, "in", what) for what in READING),
        *((WRITE, "in", what) for what in WRITING),
        *((BOTH, "in", what) for what in [*READING, *WRITING, RETURNING]),
        (METRICS, "in", COUNTS),
        *((NOBODY, "in", what) for what in OPEN),
    ],
)
def test_a_key_may_do_what_its_scopes_say(client_of, key, status, asked):
    answer = ask(client_of(server=KEYS), asked, key)
    if status == "in":
        assert answer.status_code in {200, 204, 400, 404}
    else:
        assert answer.status_code == status
        assert answer.json()["code"] == {401: "unauthorized", 403: "forbidden"}[status]
        assert ("www-authenticate" in answer.headers) == (status == 401)


def test_other_schemes_are_no_keys(client_of):
    client = client_of(server=KEYS)
    for header in (f"Basic {BOTH}", BOTH, f"Bearer {BOTH} x", "Bearer", "Bearer \xff"):
        answer = client.get("/v1", headers={"Authorization": header.encode("latin-1")})
        assert answer.status_code == 401


def test_a_key_of_a_tenant_cannot_name_another(client_of):
    client = client_of(server=KEYS)
    assert ask(client, COMMIT, SHOP).status_code == 200
    assert ask(client, GET, SHOP).status_code == 200
    assert ask(client, GET, SHOP, **{"Statehold-Tenant": "shop"}).status_code == 200
    assert ask(client, GET, BOTH, **{"Statehold-Tenant": "shop"}).status_code == 200
    assert ask(client, GET, BOTH).status_code == 404
    for other in ("", "else"):
        refused = ask(client, GET, SHOP, **{"Statehold-Tenant": other})
        assert (refused.status_code, refused.json()["field"]) == (403, "tenant")


def test_without_keys_only_known_hosts_are_answered(client_of):
    for host in ("http://localhost:8100", "http://127.0.0.1", "http://[::1]:8100"):
        assert client_of(base_url=host).get("/v1").status_code == 200
    rebound = client_of(base_url="http://evil.example")
    assert rebound.get("/v1").json()["code"] == "misdirected"
    assert rebound.post("/v1/chat/a/commit", json={}).status_code == 421
    named = client_of(base_url="http://box.test", server='[server]\nallowed_hosts = ["box.test"]')
    assert named.get("/v1").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_it_is_not_reachable_from_outside_without_keys(host):
    config = Config("memory://", {}, server=ServerConfig(host=host))
    with pytest.raises(ConfigError, match=r"server\.host"):
        run(config)
