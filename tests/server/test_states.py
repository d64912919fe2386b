"""Reading, changing, listing and deleting states over HTTP."""

import json
from urllib.parse import quote

import pytest

MESSAGE = {"role": "user", "content": "Show me blue ones"}
JSON = {"Content-Type": "application/json"}


def commit(client, id, changes, **options):
    return client.post(f"/v1/chat/{quote(id, safe='')}/commit", json=changes, **options)


def test_a_commit_is_read_back(client):
    done = commit(client, "a", {"history": {"append": [MESSAGE]}, "turns": {"add": 2}})
    assert done.status_code == 200
    assert done.json() == {
        "id": "a",
        "kind": "chat",
        "revision": done.headers["etag"].strip('"'),
        "repeated": False,
    }
    state = client.get("/v1/chat/a")
    assert state.headers["etag"] == done.headers["etag"]
    body = state.json()
    assert body["fields"] == {"history": [MESSAGE], "turns": 2, "filters": {}, "focus": None}
    assert body["expires"] == pytest.approx(body["updated"] + 3600)
    assert 0 <= body["age"] < 60
    assert (body["subject"], body["epoch"], body["missing"], body["corrupted"]) == (None, 0, [], [])


def test_fields_and_tail_say_what_is_read(client):
    messages = [{"role": "user", "content": str(number)} for number in range(5)]
    commit(client, "a", {"history": {"append": messages}, "turns": {"add": 1}})
    body = client.get("/v1/chat/a?fields=history,turns&tail=2").json()
    assert body["fields"] == {"history": messages[-2:], "turns": 1}
    assert body["missing"] == []
    assert client.get("/v1/chat/a?fields=").json()["fields"] == {}


def test_entries_say_which_of_a_field_are_read(client):
    put = {"filters": {"put": {"a,b": "1", "ü": "2", "c": "3"}}, "turns": {"add": 1}}
    entries = {"filters": ["a,b", "ü", "none"]}
    wanted = {"entries": json.dumps(entries)}
    done = commit(client, "a", put, params={"returning": "filters", **wanted})
    assert done.json()["fields"] == {"filters": {"a,b": "1", "ü": "2"}}
    body = client.get("/v1/chat/a", params=wanted | {"fields": "filters"}).json()
    assert body["fields"] == {"filters": {"a,b": "1", "ü": "2"}}
    body = client.get("/v1/chat/a", params=wanted).json()
    assert (body["fields"]["turns"], len(body["fields"]["filters"])) == (1, 2)
    read = {"ids": ["a"], "fields": ["filters"], "entries": {"filters": ["c"]}}
    batch = client.post("/v1/chat/batch", json={"read": read}).json()
    assert batch["read"][0]["fields"] == {"filters": {"c": "3"}}


@pytest.mark.parametrize(
    "query",
    [
        "fields=nope",
        "tail=0",
        "tail=x",
        "tail=-1",
        "tail=99999999999999999999999",
        "tali=1",
        "tail=1&tail=2",
        "tail=%D9%A1",
        "entries=x",
        "entries=[]",
        'entries={"nope":["a"]}',
        'entries={"filters":"a"}',
        'entries={"turns":["a"]}',
    ],
)
def test_a_wrong_parameter_is_named(client, query):
    commit(client, "a", {"turns": {"add": 1}})
    problem = client.get(f"/v1/chat/a?{query}")
    assert problem.status_code == 400
    assert problem.json()["field"] in query


def test_returning_gives_fields_as_they_stand_after_the_commit(client):
    commit(client, "a", {"turns": {"add": 1}})
    done = commit(client, "a", {"turns": {"add": 2}}, params={"returning": "turns"})
    assert done.json()["fields"] == {"turns": 3}


def test_an_absent_state_is_404(client):
    problem = client.get("/v1/chat/nobody")
    assert problem.status_code == 404
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["code"] == "absent"
    assert client.delete("/v1/chat/nobody").json()["code"] == "absent"


def test_what_has_not_changed_is_304(client):
    tag = commit(client, "a", {"turns": {"add": 1}}).headers["etag"]
    for given in (tag, f"W/{tag}", "*", f'"0.1", {tag}'):
        same = client.get("/v1/chat/a", headers={"If-None-Match": given})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    commit(client, "a", {"turns": {"add": 1}})
    assert client.get("/v1/chat/a", headers={"If-None-Match": tag}).status_code == 200


def test_conditions_of_a_commit(client):
    fresh = {"If-None-Match": "*"}
    first = commit(client, "a", {"turns": {"add": 1}}, headers=fresh)
    assert first.status_code == 200
    again = commit(client, "a", {"turns": {"add": 1}}, headers=fresh)
    assert (again.status_code, again.json()["code"]) == (412, "conflict")
    assert again.json()["found"] == first.json()["revision"]
    tag = first.headers["etag"]
    second = commit(client, "a", {"turns": {"add": 1}}, headers={"If-Match": tag})
    assert second.status_code == 200
    assert commit(client, "a", {}, headers={"If-Match": tag}).status_code == 412
    assert commit(client, "a", {}, headers={"If-Match": "*"}).status_code == 200
    assert commit(client, "b", {}, headers={"If-Match": "*"}).status_code == 412
    assert commit(client, "a", {}, headers={"If-Match": "x"}).status_code == 412
    assert client.get("/v1/chat/a").json()["fields"]["turns"] == 2
    assert client.delete("/v1/chat/a", headers={"If-Match": tag}).status_code == 412
    newest = client.get("/v1/chat/a").headers["etag"]
    assert client.delete("/v1/chat/a", headers={"If-Match": newest}).status_code == 204


def test_an_idempotency_key_is_applied_once(client):
    key = {"Idempotency-Key": "Grüße 1".encode()}
    first = commit(client, "a", {"turns": {"add": 1}}, headers=key)
    second = commit(client, "a", {"turns": {"add": 1}}, headers=key)
    assert (first.json()["repeated"], second.json()["repeated"]) == (False, True)
    assert first.headers["etag"] == second.headers["etag"]
    assert client.get("/v1/chat/a").json()["fields"]["turns"] == 1
    wrong = commit(client, "a", {}, headers={"Idempotency-Key": "x" * 129})
    assert (wrong.status_code, wrong.json()["field"]) == (400, "Idempotency-Key")


def test_an_older_epoch_is_fenced_off(client):
    assert commit(client, "a", {}, headers={"Statehold-Epoch": "2"}).status_code == 200
    late = commit(client, "a", {"turns": {"add": 1}}, headers={"Statehold-Epoch": "1"})
    assert (late.status_code, late.json()["code"], late.json()["found"]) == (409, "fenced", 2)
    assert client.delete("/v1/chat/a").json()["code"] == "fenced"
    assert client.delete("/v1/chat/a", headers={"Statehold-Epoch": "2"}).status_code == 204


@pytest.mark.parametrize(
    ("changes", "status", "code", "field"),
    [
        ({"nope": {"put": 1}}, 422, "invalid", "nope"),
        ({"turns": {"append": [1]}}, 422, "invalid", "turns"),
        ({"turns": {"add": "x"}}, 422, "invalid", "turns"),
        ({"turns": {"add": 2**63}}, 422, "invalid", "turns"),
        ({"turns": 1}, 422, "invalid", "turns"),
        ({"history": {"append": [{"role": 1}]}}, 422, "invalid", "history"),
        ({"history": {"append": [{**MESSAGE, "extra": 1}]}}, 422, "invalid", "history"),
        (
            {"history": {"append": [{"role": "user", "content": "x" * 5000}]}},
            413,
            "too_large",
            "history",
        ),
        ({"filters": {"put": dict.fromkeys("abcd", "x")}}, 413, "too_large", "filters"),
        ({"filters": {"put": {"x" * 513: "y"}}}, 413, "too_large", "filters"),
        ([], 422, "invalid", "changes"),
    ],
)
def test_a_wrong_change_is_refused_and_the_field_named(client, changes, status, code, field):
    problem = commit(client, "a", changes)
    body = problem.json()
    assert (problem.status_code, body["code"], body.get("field")) == (status, code, field)
    assert client.get("/v1/chat/a").status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":NaN}', b"[" * 100_000, b"1" * 5000])
def test_what_is_no_json_is_400(client, body):
    problem = client.post("/v1/chat/a/commit", content=body, headers=JSON)
    assert problem.status_code in {400, 422}
    assert problem.json()["code"] in {"malformed", "invalid"}


def test_a_body_must_say_that_it_is_json(client):
    for media in ("text/plain", "application/x-www-form-urlencoded", ""):
        problem = client.post("/v1/chat/a/commit", content=b"{}", headers={"Content-Type": media})
        assert (problem.status_code, problem.json()["code"]) == (415, "unsupported_media_type")
    squeezed = {**JSON, "Content-Encoding": "gzip"}
    assert client.post("/v1/chat/a/commit", content=b"", headers=squeezed).status_code == 415


IDS = [
    "a/b",
    "a/commit",
    "x/watch",
    "batch",
    "ü☃",
    "a b?c#d",
    "%2F",
    "'\"{}*",
    "line\nbreak",
    "..x",
]


@pytest.mark.parametrize("id", IDS)
def test_an_id_may_hold_any_character(client, id):
    assert commit(client, id, {"turns": {"add": 1}}).json()["id"] == id
    assert client.get(f"/v1/chat/{quote(id, safe='')}").json()["id"] == id
    assert client.get("/v1/chat").json()["ids"] == [id]
    assert client.delete(f"/v1/chat/{quote(id, safe='')}").status_code == 204


def test_ids_are_limited(client):
    assert client.get(f"/v1/chat/{'x' * 512}").json()["code"] == "absent"
    for query in ("prefix=%ff", "subject=a%ff", "%ff=1"):
        told = client.get(f"/v1/chat?{query}")
        assert told.status_code == 400, query
        assert "UTF-8" in told.text
    for path in ("x" * 513, "%ff", quote("ü" * 257)):
        problem = client.get(f"/v1/chat/{path}")
        assert (problem.status_code, problem.json()["field"]) == (400, "id")


def test_a_listing_comes_in_pages(client):
    for number in range(5):
        commit(client, f"id {number}", {"turns": {"add": 1}})
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/chat", params=query).json()
        found, cursor, pages = found + page["ids"], page["cursor"], pages + 1
    assert sorted(found) == [f"id {number}" for number in range(5)]
    assert pages >= 3
    foreign = client.get("/v1/chat?cursor=foreign")
    assert (foreign.status_code, foreign.json()["field"]) == (400, "cursor")
    for limit in ("0", "1001", "x"):
        assert client.get(f"/v1/chat?limit={limit}").json()["field"] == "limit"


def test_a_subject_has_its_own_listing(client):
    commit(client, "a", {}, headers={"Statehold-Subject": quote("user ü")})
    commit(client, "b", {})
    assert client.get("/v1/chat", params={"subject": "user ü"}).json()["ids"] == ["a"]
    assert client.get("/v1/chat/a").json()["subject"] == "user ü"


def test_a_state_may_be_about_several(client):
    """Names with commas between them, which are those of one header; a comma alone is for nobody."""

    def about(*given):
        headers = [("Statehold-Subject", one) for one in given]
        return client.post("/v1/chat/a/commit", json={}, headers=headers)

    def found():
        body = client.get("/v1/chat/a").json()
        return body["subject"], body["subjects"]

    several = [quote(name, safe="") for name in ("user ü", "run,7", "a/b")]
    assert about(", ".join(several)).status_code == 200
    assert found() == ("user ü", ["user ü", "run,7", "a/b"])
    for subject in ("user ü", "run,7", "a/b"):
        assert client.get("/v1/chat", params={"subject": subject}).json()["ids"] == ["a"]
    commit(client, "a", {"turns": {"add": 1}})
    assert found()[0] == "user ü"
    assert about("ann", "run%3A7").status_code == 200
    assert found() == ("ann", ["ann", "run:7"])
    for wrong in ("", "ann,", ",ann", ",,", "%ff,ann", ",".join("abcdefghi"), "x" * 513):
        answer = about(wrong)
        assert (answer.status_code, "ubject" in answer.json()["field"]) == (400, True), wrong
    assert found() == ("ann", ["ann", "run:7"])
    assert about(",").status_code == 200
    assert found() == (None, [])
    assert client.get("/v1/chat", params={"subject": "ann"}).json()["ids"] == []


def test_a_listing_by_prefix_newest_first_and_with_states(client):
    for name in ("a%", "ab", "b", "a%c"):
        commit(client, name, {"turns": {"add": 1}}, headers={"Statehold-Subject": "ann"})

    def page(**query):
        answer = client.get("/v1/chat", params=query)
        return answer.status_code, answer.json()

    assert sorted(page(prefix="a%")[1]["ids"]) == ["a%", "a%c"]
    found = page(subject="ann", newest="true", prefix="a", limit=2)[1]
    assert found["ids"] == ["a%c", "ab"]
    found = page(subject="ann", newest="true", prefix="a", limit=2, cursor=found["cursor"])[1]
    assert (found["ids"], found["cursor"], "states" in found) == (["a%"], None, False)
    found = page(values="true", prefix="b")[1]
    assert found["states"] == [client.get("/v1/chat/b").json() | {"age": found["states"][0]["age"]}]
    found = page(values="true", fields="turns", subject="ann", newest="true", limit=1)[1]
    assert [state["fields"] for state in found["states"]] == [{"turns": 1}]
    for wrong in ({"newest": "true"}, {"newest": "yes"}, {"values": "1"}, {"prefix": "x" * 513}):
        status, problem = page(**wrong)
        assert (status, problem["field"]) == (400, *wrong)
    assert page(fields="turns")[0] == page(values="true", fields="nothing")[0] == 400
    assert page(values="true", limit=1001)[1]["field"] == "limit"


def test_a_commit_says_how_long_the_state_lives(client):
    def expires(**headers):
        answer = commit(client, "a", {"turns": {"add": 1}}, headers=headers)
        assert answer.status_code == 200, answer.json()
        state = client.get("/v1/chat/a").json()
        return state["expires"] - state["updated"]

    assert expires() == pytest.approx(3600)
    assert expires(**{"Statehold-TTL": "12.5"}) == pytest.approx(12.5)
    assert expires() == pytest.approx(3600)
    for ttl, found in (("3601", 3601), ("0", None), ("-1", None), ("nan", None), ("1h", None)):
        answer = commit(client, "a", {"turns": {"add": 1}}, headers={"Statehold-TTL": ttl})
        assert answer.status_code == 400
        if found:
            problem = answer.json()
            assert (problem["field"], problem["expected"], problem["found"]) == ("ttl", 3600, 3601)
    assert client.get("/v1/chat/a").json()["fields"]["turns"] == 3


def test_tenants_do_not_see_each_other(client):
    commit(client, "a", {"turns": {"add": 1}}, headers={"Statehold-Tenant": quote("häuser/1")})
    assert client.get("/v1/chat/a").status_code == 404
    assert client.get("/v1/chat").json()["ids"] == []
    assert client.get("/v1/chat", headers={"Statehold-Tenant": quote("häuser/1")}).json()[
        "ids"
    ] == ["a"]
    assert client.get("/v1/chat", headers={"Statehold-Tenant": "%ff"}).status_code == 400


def test_the_index_tells_kinds_and_what_changed_last(client):
    commit(client, "a", {"turns": {"add": 1}})
    commit(client, "b", {"turns": {"add": 1}})
    client.delete("/v1/chat/a")
    found = client.get("/v1").json()
    assert [kind["kind"] for kind in found["kinds"]] == ["chat", "profile"]
    assert found["kinds"][0]["fields"]["history"] == "log"
    assert [state["id"] for state in found["recent"]] == ["b"]


def test_every_type_of_field_can_be_changed_and_read(client):
    changes = {
        "score": {"add": 1.5},
        "tags": {"add": ["x"]},
        "clicks": {"add": {"y": 2}},
        "spend": {"add": 3},
        "taste": {"add": {"vector": [1, 2]}},
        "backend": {"put": [0.5, 1]},
        "talk": {"append": ["hi", "hello"]},
        "steps": {"put": {"pay": {"ok": True}}},
    }
    assert client.post("/v1/profile/p/commit", json=changes).status_code == 200
    fields = client.get("/v1/profile/p").json()["fields"]
    assert fields["taste"].pop("weight") == pytest.approx(1, abs=0.01)
    assert fields == {
        "score": 1.5,
        "tags": ["x"],
        "clicks": {"y": 2},
        "spend": {"count": 1, "sum": 3},
        "taste": {"mean": [1, 2]},
        "backend": [0.5, 1],
        "talk": ["hi", "hello"],
        "steps": {"pay": {"ok": True}},
    }
    assert client.get("/v1/profile/p").json()["expires"] is None
