"""The first page, in Chromium: kinds with counts, the latest states, one state live, a key asked for."""

import pytest
from playwright.sync_api import expect, sync_playwright

from .conftest import BOTH, KEYS

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AUTHORIZED = {"Authorization": f"Bearer {BOTH}"}


@pytest.fixture
def browser(chromium):
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGS)
        yield started
        started.close()


def open_page(browser, server, **options):
    page = browser.new_page(**options)
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: _own(request.url, server, faults))
    page.goto(f"http://127.0.0.1:{server.port}/")
    return page, faults


def _own(url, server, faults):
    if not url.startswith((f"http://127.0.0.1:{server.port}/", "data:")):
        faults.append(f"asked elsewhere: {url}")


def commit(server, id, changes, headers=None):
    assert server.ask("POST", f"/v1/chat/{id}/commit", changes, headers)[0] == 200


def test_a_state_is_seen_as_it_changes(browser, serve):
    server = serve()
    for number in range(30):
        commit(server, f"visitor-{number}", {"turns": {"add": 1}})
    message = {"role": "user", "content": "<b>Show me blue ones</b>"}
    commit(server, "alice%2F1", {"history": {"append": [message]}, "turns": {"add": 1}})
    page, faults = open_page(browser, server)
    expect(page.locator("#count-chat")).to_have_text("31")
    expect(page.locator("#count-profile")).to_have_text("0")
    expect(page.locator("#health-text")).to_have_text("store ready")
    expect(page.locator("#latest li")).to_have_count(20)
    page.get_by_role("button", name="alice/1").click()
    expect(page.locator("#live-title")).to_have_text("chat alice/1")
    expect(page.locator("#field-turns pre")).to_have_text("1")
    expect(page.locator("#field-history pre")).to_contain_text("<b>Show me blue ones</b>")
    commit(server, "alice%2F1", {"turns": {"add": 4}})
    expect(page.locator("#field-turns pre")).to_have_text("5")
    server.ask("DELETE", "/v1/chat/alice%2F1")
    expect(page.locator("#live-note")).to_contain_text("State not found")
    page.locator("#open-id").fill("new one")
    page.get_by_role("button", name="Watch").click()
    commit(server, "new%20one", {"focus": {"put": "shoes"}})
    expect(page.locator("#field-focus pre")).to_have_text("shoes")
    assert not faults


def test_counts_are_bounded(browser, serve):
    server = serve(server="[server]\nmax_page = 10")
    for number in range(11):
        commit(server, f"{number}", {})
    page, faults = open_page(browser, server)
    expect(page.locator("#count-chat")).to_have_text("10+")
    assert not faults


def test_a_key_is_asked_for_and_kept_in_memory_only(browser, serve):
    server = serve(server=KEYS)
    commit(server, "a", {"turns": {"add": 7}}, AUTHORIZED)
    page, faults = open_page(browser, server)
    expect(page.locator("#key-dialog")).to_be_visible()
    page.locator("#key").fill("w" * 23 + "x")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#key-note")).to_have_text("Unknown API key.")
    page.locator("#key").fill(BOTH)
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#count-chat")).to_have_text("1")
    page.locator("#latest button").first.click()
    expect(page.locator("#field-turns pre")).to_have_text("7")
    kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
    assert BOTH not in page.evaluate(kept)
    page.reload()
    expect(page.locator("#key-dialog")).to_be_visible()
    assert not faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(browser, serve, scheme):
    server = serve()
    commit(server, "a", {})
    page, _ = open_page(browser, server, color_scheme=scheme)
    expect(page.locator("#latest li")).to_have_count(1)
    for selector in ("h1", "#health-text", "#kinds td", "#latest .kind", "#latest .id"):
        colours = page.locator(selector).first.evaluate(COLOURS)
        text, ground = (_luminance(colour) for colour in colours)
        assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5, selector


COLOURS = """element => {
    let ground = element;
    while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
    return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
}"""


def _luminance(colour):
    channels = [int(part) / 255 for part in colour.strip("rgb()").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
