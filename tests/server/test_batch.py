"""Many commits and reads in one request."""

import pytest


def ask(client, **batch):
    return client.post("/v1/chat/batch", json=batch)


def test_each_has_its_own_result(client):
    commits = [
        {"id": "a", "changes": {"turns": {"add": 1}}, "op": "1"},
        {"id": "a", "changes": {"turns": {"add": 1}}, "op": "1"},
        {"id": "b", "changes": {"turns": {"add": "x"}}},
        {"id": "c", "expect": "present"},
        {"id": "c", "expect": "absent", "subject": "me"},
        {"id": "", "changes": {}},
        {"id": 7},
        {"changes": {}, "nope": 1},
        3,
    ]
    body = ask(
        client, commit=commits, read={"ids": ["a", "b", "", "a"], "fields": ["turns"]}
    ).json()
    got = [(result["status"], result.get("code")) for result in body["commit"]]
    assert got == [
        (200, None),
        (200, None),
        (422, "invalid"),
        (412, "conflict"),
        (200, None),
        *[(422, "invalid")] * 4,
    ]
    assert [result.get("repeated") for result in body["commit"][:2]] == [False, True]
    assert [(r["id"], r["status"]) for r in body["read"]] == [
        ("a", 200),
        ("b", 404),
        ("", 422),
        ("a", 200),
    ]
    assert body["read"][0]["fields"] == {"turns": 1}
    assert client.get("/v1/chat?subject=me").json()["ids"] == ["c"]


def test_each_may_be_about_several(client):
    told = (["me", "run 7"], "me", [], ["me", ""], list("abcdefghi"), 3, ["me", 3], {"me": 1})
    commits = [{"id": f"{n}", "subject": subject} for n, subject in enumerate(told)]
    results = ask(client, commit=commits, read={"ids": ["0", "1", "2"]}).json()
    assert [result["status"] for result in results["commit"]] == [200] * 3 + [422] * 5
    assert {result["field"] for result in results["commit"][3:]} == {"subject"}
    shown = [(found["subject"], found["subjects"]) for found in results["read"]]
    assert shown == [("me", ["me", "run 7"]), ("me", ["me"]), (None, [])]
    assert client.get("/v1/chat?subject=run+7").json()["ids"] == ["0"]


def test_each_may_say_its_ttl(client):
    commits = [{"id": "a", "ttl": ttl} for ttl in (60, 0.5, None, 3600, 3601, 0, "1h", True, [])]
    results = ask(client, commit=commits).json()["commit"]
    assert [result["status"] for result in results] == [200] * 4 + [422] * 5
    assert {result["field"] for result in results[4:]} == {"ttl"}
    assert (results[4]["expected"], results[4]["found"]) == (3600, 3601)
    ask(client, commit=[{"id": "a", "ttl": 60}])
    state = client.get("/v1/chat/a").json()
    assert state["expires"] - state["updated"] == pytest.approx(60)


def test_reads_see_the_commits_of_the_same_batch(client):
    commits = [{"id": "a", "changes": {"turns": {"add": 1}}} for _ in range(5)]
    body = ask(client, commit=commits, read={"ids": ["a"]}).json()
    assert body["read"][0]["fields"]["turns"] == 5


def test_commits_on_sqlite_are_made_in_their_order(client_of, tmp_path):
    client = client_of(backend=f"sqlite:///{tmp_path}/state.db")
    items = [{"role": "user", "content": str(number)} for number in range(20)]
    commits = [{"id": "a", "changes": {"history": {"append": [item]}}} for item in items]
    body = ask(client, commit=commits, read={"ids": ["a"]}).json()
    assert {result["status"] for result in body["commit"]} == {200}
    assert body["read"][0]["fields"]["history"] == items


def test_conditions_are_kept(client):
    first = ask(client, commit=[{"id": "a"}]).json()["commit"][0]["revision"]
    commits = [
        {"id": "a", "expect": first, "epoch": 3},
        {"id": "a", "expect": first, "epoch": 3},
        {"id": "a", "epoch": 2},
        {"id": "a", "expect": "x"},
        {"id": "a", "epoch": "x"},
        {"id": "a", "op": ""},
    ]
    results = ask(client, commit=commits).json()["commit"]
    assert [result["status"] for result in results] == [200, 412, 409, 422, 422, 422]


@pytest.mark.parametrize(
    "batch",
    [
        {"commits": []},
        {"commit": {}},
        {"read": []},
        {"read": {"ids": ["a"], "fields": ["nope"]}},
        {"read": {"ids": ["a"], "fields": "turns"}},
        {"read": {"ids": ["a"], "fields": [1]}},
        {"read": {"ids": ["a"], "tail": 0}},
        {"read": {"ids": ["a"], "entries": ["filters"]}},
        {"read": {"ids": ["a"], "entries": {"turns": [""]}}},
        {"read": {"ids": "a"}},
    ],
)
def test_a_wrong_batch_is_refused_as_a_whole(client, batch):
    answer = ask(client, **batch)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["field"]


def test_an_empty_batch_is_nothing(client):
    assert ask(client).json() == {"commit": [], "read": []}
