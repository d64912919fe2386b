"""The example shop: what it remembers, what that changes, and what it does without its store."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from examples.shop import app, shop
from examples.shop.catalogue import Catalogue, load, shades_in
from examples.shop.retrieval import Index
from examples.shop.state import Visit
from examples.shop.understanding import Wish, understand
from examples.shop.walk import ROOT, Service
from statehold import AsyncStore, Unavailable
from statehold.commits import Commit, Key, Want
from statehold.driver import Cells, Outcome
from statehold.drivers.memory import MemoryDriver

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def own() -> Index:
    return Index(load(None))


class Visitor:
    """A visit over HTTP."""

    def __init__(self, client: TestClient, id: str = "ann") -> None:
        self.client = client
        self.path = f"/api/visits/{id}"

    def say(self, text: str) -> dict[str, Any]:
        return self._post("say", {"text": text})

    def click(self, product: str) -> dict[str, Any]:
        return self._post("click", {"product": product})

    def look(self) -> dict[str, Any]:
        return self.client.get(self.path).json()

    def ranks(self) -> dict[str, int]:
        products = self.client.get(f"{self.path}/ranking").json()["products"]
        return {product["id"]: rank for rank, product in enumerate(products, 1)}

    def _post(self, action: str, body: dict[str, str]) -> dict[str, Any]:
        response = self.client.post(f"{self.path}/{action}", json=body)
        assert response.status_code == 200, response.text
        return response.json()


@contextmanager
def serving(store: Callable[[], AsyncStore]) -> Iterator[TestClient]:
    with TestClient(app.create(store)) as client:
        yield client


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    with serving(lambda: AsyncStore.open("memory://")) as client:
        yield Visitor(client)


def _ids(answer: dict[str, Any]) -> list[str]:
    return [product["id"] for product in answer["products"]]


# ------------------------------------------------------------------------------------- what it does


def test_each_sentence_adds_to_those_before(visitor):
    for product in visitor.say("I'm looking for running shoes")["products"]:
        assert product["style"] == "running shoe"
    for product in visitor.say("Under $150")["products"]:
        assert (product["style"], product["price"] <= 150) == ("running shoe", True)
    blue = visitor.say("Show me blue ones")
    assert len(blue["products"]) == shop.PAGE
    for product in blue["products"]:
        assert product["style"] == "running shoe"
        assert product["price"] <= 150
        assert product["colours"] == ["blue"]
    like = visitor.say("more like that")
    assert like["state"]["focus"] == like["state"]["filters"]["like"] == blue["products"][0]["id"]
    assert like["state"]["filters"]["colour"] == "blue"
    assert blue["products"][0]["id"] not in _ids(like)
    assert like["state"]["turns"] == 4


def test_memory_outlives_the_service(tmp_path):
    def store() -> AsyncStore:
        return AsyncStore.open(f"sqlite:///{tmp_path}/shop.db")

    with serving(store) as client:
        visitor = Visitor(client)
        visitor.say("I'm looking for running shoes")
        before = visitor.say("Under $150")
    with serving(store) as client:
        after = Visitor(client).look()
        assert after["revision"] == before["revision"]
        assert after["state"]["filters"] == before["state"]["filters"]
        assert _ids(after) == _ids(before)
        blue = Visitor(client).say("Show me blue ones")
    assert {colour for product in blue["products"] for colour in product["colours"]} == {"blue"}
    assert max(product["price"] for product in blue["products"]) <= 150
    assert [message["who"] for message in blue["conversation"]] == ["visitor", "shop"] * 3


def test_a_click_changes_the_next_recommendations_at_once(visitor):
    shown = _ids(visitor.say("running shoes under $150"))
    before = visitor.ranks()
    clicked = "fathom-stability-slate"
    answer = visitor.click(clicked)
    after = visitor.ranks()
    assert answer["focus"]["id"] == clicked
    assert clicked not in _ids(answer), "it has its own place on the page"
    assert _ids(answer) != shown
    for sibling in ("fathom-stability-cobalt", "fathom-stability-plum"):
        assert after[sibling] < before[sibling]
    assert answer["state"]["clicks"] == {clicked: 1}
    assert answer["state"]["trail"] == [clicked]


def test_what_was_ignored_sinks(visitor):
    shown = _ids(visitor.say("running shoes"))
    before = visitor.ranks()
    answer = visitor.say("something else")
    after = visitor.ranks()
    assert set(answer["state"]["ignored"]) == set(shown)
    assert set(_ids(answer)).isdisjoint(shown)
    assert all(after[id] > before[id] for id in shown)


def test_narrowing_a_search_ignores_nothing(visitor):
    visitor.say("running shoes")
    assert visitor.say("under $150")["state"]["ignored"] == {}


def test_cheaper_than_that(visitor):
    visitor.say("running shoes")
    visitor.click("kelp-runner-navy")
    prices = [product["price"] for product in visitor.say("cheaper")["products"]]
    assert prices
    assert max(prices) < 119


def test_start_over_keeps_the_taste(visitor):
    visitor.say("blue running shoes")
    visitor.click("gull-lite-cobalt")
    answer = visitor.say("start over")
    assert answer["state"]["filters"] == {}
    assert answer["focus"] is None
    assert answer["state"]["taste"]["mean"] is not None
    assert visitor.ranks()["gull-lite-cobalt"] == 1


def test_another_kind_is_another_search(visitor):
    visitor.say("blue running shoes under $100")
    assert visitor.say("I need a jacket")["state"]["filters"] == {
        "kind": "jacket",
        "words": "jacket",
    }


def test_visitors_do_not_share_state(visitor):
    visitor.say("blue running shoes")
    other = Visitor(visitor.client, "bob")
    assert other.look()["state"]["filters"] == {}
    assert other.say("red ones")["state"]["filters"] == {"colour": "red"}
    assert visitor.look()["state"]["filters"]["colour"] == "blue"


def test_nothing_fits(visitor):
    answer = visitor.say("running shoes under $3")
    assert answer["products"] == []
    assert "There are no running shoes up to $3." in answer["conversation"][-1]["text"]


def test_what_is_not_understood_is_said_and_changes_nothing(visitor):
    before = visitor.say("running shoes")
    answer = visitor.say("xyzzy plugh")
    assert "did not understand that (xyzzy, plugh)" in answer["conversation"][-1]["text"]
    assert answer["state"]["filters"] == before["state"]["filters"]
    assert _ids(answer) == _ids(before)


def test_forgotten(visitor):
    visitor.say("running shoes")
    assert visitor.client.delete(visitor.path).status_code == 204
    assert visitor.look()["state"]["turns"] == 0


def test_looking_is_not_remembered(visitor):
    answer = visitor.look()
    assert len(answer["products"]) == shop.PAGE
    assert visitor.look()["revision"] == "0.0"


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("say", {"text": ""}, 422),
        ("say", {"text": "x" * 501}, 422),
        ("say", {}, 422),
        ("say", {"text": f"under ${'9' * 400}"}, 422),
        ("click", {"product": "nothing-of-ours"}, 404),
    ],
)
def test_what_is_refused_changes_nothing(visitor, action, body, status):
    assert visitor.client.post(f"{visitor.path}/{action}", json=body).status_code == status
    assert visitor.look()["revision"] == "0.0"


def test_who_hammers_is_asked_to_wait(visitor, monkeypatch):
    monkeypatch.setattr(app, "REQUESTS_A_MINUTE", 2)
    visitor.say("running shoes")
    visitor.say("blue ones")
    response = visitor.client.post(f"{visitor.path}/say", json={"text": "cheaper"})
    assert response.status_code == 429
    assert response.headers["retry-after"]


# --------------------------------------------------------------------------- when the store is down


class Moody(MemoryDriver):
    """A backend that can be told not to answer."""

    reads = commits = True

    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        if not self.reads:
            raise Unavailable("down")
        return await super().read(keys, want, now)

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        if not self.commits:
            raise Unavailable("down")
        return await super().commit(commits, now)


def test_without_the_store_it_answers_from_defaults_and_says_so():
    driver = Moody()
    with serving(lambda: AsyncStore(driver)) as client:
        visitor = Visitor(client)
        remembered = visitor.say("running shoes under $150")
        driver.reads = driver.commits = False
        assert client.get("/healthz").json()["store"] == "unavailable"
        assert visitor.look()["remembered"] is False
        answer = visitor.say("Show me blue ones")
        assert answer["remembered"] is False
        assert all("blue" in product["colours"] for product in answer["products"])
        assert answer["state"]["filters"] == {"colour": "blue"}, "it knows nothing else"
        assert client.delete(visitor.path).status_code == 503
        driver.reads = driver.commits = True
        back = visitor.say("Show me blue ones")
        assert back["remembered"] is True
        assert back["state"]["filters"] == {**remembered["state"]["filters"], "colour": "blue"}


def test_what_could_be_read_but_not_written_is_not_called_remembered():
    driver = Moody()
    with serving(lambda: AsyncStore(driver)) as client:
        visitor = Visitor(client)
        visitor.say("running shoes")
        driver.commits = False
        assert visitor.say("Under $150")["remembered"] is False
        driver.commits = True
        assert "max_price" not in visitor.look()["state"]["filters"]


# ------------------------------------------------------------------------------------ how it decides


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        (
            "I'm looking for running shoes",
            Wish(put={"kind": "running shoe", "words": "running shoe"}),
        ),
        ("Under $150", Wish(put={"max_price": 150.0})),
        ("less than 80 dollars please", Wish(put={"max_price": 80.0})),
        ("at least €1,200.50", Wish(put={"min_price": 1200.5})),
        ("no more than $80", Wish(put={"max_price": 80.0})),
        ("over $50 but under $80", Wish(put={"min_price": 50.0, "max_price": 80.0})),
        ("between $100 and $50", Wish(put={"min_price": 50.0, "max_price": 100.0})),
        ("Show me blue ones", Wish(put={"colour": "blue"})),
        ("navy or crimson", Wish(put={"colour": "blue or red"})),
        ("anything but black", Wish(put={"not_colour": "black"})),
        ("any colour", Wish(drop=frozenset({"colour", "not_colour"}))),
        ("any price", Wish(drop=frozenset({"min_price", "max_price"}))),
        ("more like that", Wish("like")),
        ("something similar in red", Wish("like", {"colour": "red"})),
        ("something else", Wish("else")),
        ("too expensive", Wish("cheaper")),
        ("start over", Wish("restart")),
        ("start over with jackets", Wish("restart", {"kind": "jacket", "words": "jacket"})),
        ("waterproof", Wish(put={"words": "waterproof"})),
        ("trainers", Wish(put={"kind": "running shoe", "words": "trainer"})),
        ("xyzzy", Wish(unknown=("xyzzy",))),
        ("", Wish()),
    ],
)
def test_understanding(own, text, wish):
    assert understand(text, own.kinds, own.vocabulary) == wish


@pytest.mark.parametrize(
    ("name", "text", "shades"),
    [
        ("Navy Canvas Sneaker", "a ribbed white sole", ["navy"]),
        ("Sneaker", "vibrant blue high-tops with a white stripe", ["blue"]),
        ("Skate Shoe", "a sleek navy and black colorway", ["navy", "black"]),
        ("Colourful Redwood Thing", "a bored carpenter made it", []),
    ],
)
def test_colours_are_read_from_texts(name, text, shades):
    assert shades_in(name, text) == shades


def test_a_ranking_is_the_sum_of_its_parts(own):
    visit = Visit()
    shop.say(visit, "running shoes", own)
    shop.click(visit, visit.shown[0], own)
    ranked = shop.ranking(visit, own)
    scores = [item.score for item in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(item.score == item.relevance + item.taste + item.ignored for item in ranked)


def test_the_own_catalogue_is_whole():
    catalogue = load(None)
    assert len({product.id for product in catalogue.products}) == len(catalogue.products) == 104
    assert all(product.colours and product.price > 0 for product in catalogue.products)


def test_another_catalogue_is_another_version(own):
    fewer = Catalogue("own", own.catalogue.products[1:])
    assert fewer.version != own.catalogue.version


def test_the_retail_catalogue(data_dir):
    catalogue = load(data_dir)
    assert catalogue.name == "retail"
    assert len(catalogue.products) == 2465
    index = Index(catalogue)
    visit = Visit()
    for text in ("I'm looking for running shoes", "Under $150", "Show me blue ones"):
        shop.say(visit, text, index)
    assert len(visit.shown) >= 3
    for id in visit.shown:
        product = index[id]
        assert product.category == "footwear"
        assert product.price <= 150
        assert "blue" in product.colours


# ------------------------------------------------------------------------------------ the whole of it


def _walk(tmp_path: Path, data: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "examples.shop",
            "--exit",
            "--backend",
            f"sqlite:///{tmp_path}/s.db",
        ],
        cwd=ROOT,
        env={**os.environ, "STATEHOLD_DATA": data},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert "kill -9" in done.stdout
    assert done.stderr == ""
    return done.stdout


def test_the_walk(tmp_path):
    assert "its own" in _walk(tmp_path, str(tmp_path))


def test_the_walk_over_the_retail_catalogue(tmp_path, data_dir):
    assert "retail catalogue" in _walk(tmp_path, str(data_dir))


def test_it_serves_until_ctrl_c(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "examples.shop", "--backend", f"sqlite:///{tmp_path}/s.db"],
        cwd=ROOT,
        env={**os.environ, "STATEHOLD_DATA": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output = ""
        for line in process.stdout:
            output += line
            if "Ctrl-C" in line:
                break
        assert "/?visit=walk" in output
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        rest, _ = process.communicate(timeout=20)
        assert process.returncode == 0, output + rest
        assert "Traceback" not in rest
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "examples.shop", "--exit", "--port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"examples.shop: port {port} is taken\n"


@pytest.fixture
def service(tmp_path, unused_port) -> Iterator[Service]:
    service = Service(unused_port, f"sqlite:///{tmp_path}/shop.db", None)
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.leaks("Playwright keeps a loop and a thread of its own")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(service, chromium, scheme):
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1360, "height": 800})
        errors: list[str] = []
        elsewhere: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((service.url, "data:"))
                else elsewhere.append(request.url)
            ),
        )
        page.goto(f"{service.url}/?visit=page")
        expect(page.locator(".card")).to_have_count(6)

        def say(text: str) -> None:
            said = page.locator(".visitor").count()
            page.fill("#text", text)
            page.press("#text", "Enter")
            expect(page.locator(".visitor")).to_have_count(said + 1)

        say("I'm looking for running shoes")
        say("Under $150")
        service.kill()
        service.start()
        say("Show me blue ones")
        cards = page.locator(".card")
        expect(cards).to_have_count(6)
        for card in cards.all():
            assert card.get_attribute("data-colours") == "blue"
            assert float(card.get_attribute("data-price")) <= 150
        expect(page.locator(".restart")).to_have_count(1)
        colour = page.locator('#state [data-path="filters/colour"]')
        expect(colour).to_have_text('colour: "blue"')
        expect(colour).to_have_class("changed")
        expect(page.locator('#state [data-path="filters/max_price"]')).not_to_have_class("changed")
        expect(page.locator("#commit")).to_contain_text("put filters.colour")

        name = cards.nth(2).locator("b").inner_text()
        cards.nth(2).click()
        expect(page.locator("#focus b")).to_have_text(name)
        expect(page.locator("#state")).to_contain_text(f"{name}: 1")
        say("more like that")
        expect(page.locator('#state [data-path="filters/like"]')).to_contain_text(name)

        page.reload()
        expect(page.locator(".visitor")).to_have_count(4)

        service.kill()
        page.fill("#text", "cheaper")
        page.press("#text", "Enter")
        expect(page.locator("#notice")).to_be_visible()
        service.start()
        expect(page.locator("#notice")).to_be_hidden(timeout=15_000)
        say("cheaper")

        assert not errors
        assert not elsewhere, "the page needs nothing from elsewhere"
        browser.close()
