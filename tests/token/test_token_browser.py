"""In a real browser: a conversation across pages and a restart, with no state on the server."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.token.chats import KEY

ROOT = Path(__file__).parent.parent.parent
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextlib.contextmanager
def serving(port, folder):
    """A server process of its own, in an empty folder that must stay empty."""
    command = [sys.executable, "-m", "uvicorn", "tests.token.talk_app:app", "--port", str(port)]
    env = {**os.environ, "TALK_KEYS": KEY.text(), "PYTHONPATH": str(ROOT)}
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    process = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(200):
            assert process.poll() is None, process.communicate()[1]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://localhost:{port}/", timeout=5).close()
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        log = process.communicate(timeout=20)[1]
    assert "eyJ" not in log
    assert "Traceback" not in log
    assert not list(folder.iterdir())


@pytest.mark.timeout(180)
def test_a_conversation_outlives_the_server(chromium, tmp_path):
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://localhost:{port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        tab = browser.new_page()
        errors = []
        tab.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108  sets attributes

        def say(text):
            tab.fill("input", text)
            tab.click("button")
            tab.wait_for_selector(f"li:has-text('You said {text}')")

        with serving(port, tmp_path):
            tab.goto(url)
            assert tab.locator("li").count() == 0
            say("show me bags")
            say("blue ones: süße 🙂")
            tab.click("#other")
            assert tab.title() == "Again"
            assert tab.locator("li").count() == 4
            assert tab.text_content("#turns") == "2"
            # a signed token is the client's to read
            assert tab.text_content("#own").split(" | ")[2] == "blue ones: süße 🙂"
        with serving(port, tmp_path):
            tab.goto(url)
            assert tab.locator("li").count() == 4
            say("and cheaper")
            assert tab.text_content("#turns") == "3"
            (cookie,) = tab.context.cookies()
            assert cookie["name"] == "__Host-chat"
            assert cookie["secure"]
            assert cookie["sameSite"] == "Lax"
            assert 3500 < cookie["expires"] - time.time() < 3601

            # another browser is another client
            other = browser.new_context().new_page()
            other.goto(url)
            assert other.locator("li").count() == 0

            # what the client changes is noticed, and it may begin again
            middle = len(cookie["value"]) // 2
            changed = "A" if cookie["value"][middle] != "A" else "B"
            altered = cookie["value"][:middle] + changed + cookie["value"][middle + 1 :]
            tab.context.add_cookies([{**cookie, "value": altered}])
            assert tab.goto(url).status == 400
            assert tab.goto(url).status == 200
            assert tab.locator("li").count() == 0
        browser.close()
        assert not errors
