"""The command itself: help, usage, errors without tracebacks, `bench`, `serve`."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from urllib.request import urlopen

import pytest

from commands import COMMAND, environment, inside, serving, statehold
from statehold import Store, cli
from statehold.cli.exits import MEANINGS
from statehold.cli.measuring import Measured
from statehold.replay import Latencies

TOML = 'backend = "sqlite:///state.db"\n[kinds.chat]\nttl = "1h"\nfields = { turns = "counter" }\n'
COMMANDS = ["serve", "get", "apply", "scan", "delete", "replay", "bench", "keys", "check"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "statehold.toml").write_text(TOML)
    return tmp_path


def test_help_names_every_command_and_exit_code(tmp_path):
    out, _ = statehold("--help", cwd=tmp_path)
    for name in COMMANDS:
        assert f"\n    {name} " in out
        inside(name, "--help", cwd=tmp_path)
    for code, meaning in MEANINGS.items():
        assert f"{code:<4} {meaning}" in out
    assert statehold("--version", cwd=tmp_path)[0].startswith("statehold 0.")


def test_help_imports_nothing_slow():
    code = "import sys; from statehold.cli.parser import parser; parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    slow = {"asyncio", "fastapi", "http.client", "rich", "sqlite3", "uvicorn"}
    assert not slow & set(done.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fetch",),
        ("get", "chat"),
        ("get", "chat", "a", "--tail", "0"),
        ("scan", "chat", "--limit", "many"),
        ("replay", "f", "--patience", "-1"),
        ("bench", "--server", "http://127.0.0.1:1"),
    ],
)
def test_wrong_usage(folder, arguments):
    out, err = inside(*arguments, cwd=folder, code=2)
    assert out == ""
    assert err.startswith("usage: statehold")


def test_debug_shows_where(folder):
    done = subprocess.run(
        [COMMAND, "get", "nothing", "a", "--debug"],
        cwd=folder,
        capture_output=True,
        check=False,
        env=environment(),
    )
    assert b"Traceback" in done.stderr


def test_what_nobody_expected_is_one_line_too(folder, monkeypatch, capsys):
    def broken(_given):
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr("statehold.cli.checking.check", broken)
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().err == (
        "statehold: error: ZeroDivisionError: first second (--debug shows where)\n"
    )


def test_bench(folder):
    out, _ = statehold("bench", "--seconds", "0.2", cwd=folder)
    found = json.loads(out)
    assert found.pop("backend") == "sqlite:///state.db"
    assert set(found) == {"append", "read", "append_by_64"}
    for part in found.values():
        assert part["per_second"] > 0
        assert 0 < part["p50_ms"] <= part["p99_ms"]
    with Store.open(f"sqlite:///{folder / 'state.db'}") as store:
        assert list(store.collection(Measured).scan()) == []


def test_serve(folder):
    with serving(folder) as (url, process):
        with closing(urlopen(f"{url}/readyz")) as response:
            assert response.status == 200
        process.terminate()
        process.wait(20)
        assert process.returncode == -signal.SIGTERM  # after a shutdown in good order
    assert "Finished server process" in (folder / "serve.log").read_text()
    _, err = statehold("serve", "--host", "0.0.0.0", cwd=folder, code=2)
    assert "there are no keys" in err


def test_serve_without_its_extra(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "statehold.server", None)
    assert cli.main(["serve"]) == 2
    assert "pip install 'statehold[server]'" in capsys.readouterr().err


@pytest.mark.parametrize("rich", [True, False])
def test_a_progress_bar_on_a_terminal(folder, rich):
    pty = pytest.importorskip("pty")
    lines = "".join(f'{{"kind": "chat", "id": "{n}", "changes": {{}}}}\n' for n in range(200))
    (folder / "in.jsonl").write_text(lines)
    code = "import sys\n"
    code += "" if rich else "sys.modules['rich'] = sys.modules['rich.console'] = None\n"
    code += "from statehold.cli import main; sys.exit(main(['replay', 'in.jsonl']))"
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=side,
        env=environment(TERM="xterm"),
    )
    os.close(side)
    shown = b""
    while True:
        try:
            read = os.read(main, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not read:
            break
        shown += read
    out, _ = process.communicate(timeout=20)
    os.close(main)
    assert json.loads(out)["applied"] == 200
    assert (b"200/200" if rich else b"200 of 200 lines") in shown


def test_the_module_is_the_command():
    """`python -m statehold`, where the command is not on PATH."""
    told = [
        subprocess.run(
            [*command, "--version"], capture_output=True, check=True, env=environment()
        ).stdout
        for command in ([COMMAND], [sys.executable, "-m", "statehold"])
    ]
    assert told[0] == told[1] != b""


def test_latencies():
    latencies = Latencies()
    assert latencies.quantile(0.5) == 0
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert latencies.quantile(0.5) == pytest.approx(0.5, rel=0.04)
    assert latencies.quantile(0.99) == pytest.approx(0.99, rel=0.04)
    latencies.add(0)
    latencies.add(1e9)
    assert latencies.quantile(0) > 0
    assert latencies.quantile(1) < 1e9
