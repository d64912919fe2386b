"""`statehold sweep`: what has ended is gone from the file, and what lives is not."""

import json
import sqlite3
import time
from contextlib import closing

from commands import inside
from statehold import Log, State, Store

TOML = """
backend = "sqlite:///state.db"
[kinds.chat]
ttl = "1h"
fields = { said = { type = "log", items = "string", keep = 9 } }
"""
STATES = 1500
"""More than are swept in one piece."""


class Chat(State, ttl=3600, kind="chat"):
    said = Log(str, keep=9)


def rows(folder):
    with closing(sqlite3.connect(folder / "state.db")) as file:
        return file.execute("SELECT count(*) FROM state").fetchone()[0]


def filled(folder):
    """A file with states of which all but one have ended, and with the time until then behind."""
    (folder / "statehold.toml").write_text(TOML)
    with Store.open(f"sqlite:///{folder}/state.db") as store:
        chats = store.collection(Chat)
        for n in range(STATES):
            chats.apply(f"c{n}", Chat.said.append("hello"), ttl=0.5)
    inside("apply", "chat", "kept", '{"said": {"append": ["hello"]}}', cwd=folder)
    assert rows(folder) == STATES + 1
    time.sleep(0.6)


def test_a_sweep_clears_away_what_has_ended(tmp_path):
    filled(tmp_path)
    out, _ = inside("sweep", cwd=tmp_path)
    assert json.loads(out) == {"removed": STATES, "whole": True}
    assert rows(tmp_path) == 1
    found, _ = inside("get", "chat", "kept", cwd=tmp_path)
    assert json.loads(found)["fields"]["said"] == ["hello"]
    out, _ = inside("sweep", cwd=tmp_path)
    assert json.loads(out) == {"removed": 0, "whole": True}


def test_kinds_that_nobody_declares_any_more_are_swept(tmp_path):
    filled(tmp_path)
    (tmp_path / "statehold.toml").write_text(TOML.replace("kinds.chat", "kinds.other"))
    inside("sweep", cwd=tmp_path)
    assert rows(tmp_path) == 1


def test_a_sweep_ends_when_its_time_is_over(tmp_path):
    filled(tmp_path)
    out, _ = inside("sweep", "--seconds", "0.000001", cwd=tmp_path)
    assert not json.loads(out)["whole"]
    inside("sweep", "--seconds", "0", cwd=tmp_path, code=2)


def test_a_sweep_needs_no_kinds(tmp_path):
    """It is about what is stored, whoever declares it."""
    filled(tmp_path)
    (tmp_path / "statehold.toml").unlink()
    out, _ = inside("sweep", "--backend", "sqlite:///state.db", cwd=tmp_path)
    assert json.loads(out) == {"removed": STATES, "whole": True}
