"""Around handlers: tokens come and go by cookie, header or body, and errors leave nothing behind."""

import asyncio
from typing import Annotated

import httpx2
import pytest
from fastapi import BackgroundTasks, FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse as StarletteJSON
from starlette.routing import Route
from starlette.testclient import TestClient

from statehold import ConfigError, ManualClock
from statehold.integrations import starlette
from statehold.integrations.fastapi import Tokens
from statehold.integrations.starlette import Cookie
from statehold.tokens import Key, revoke
from tests.token.chats import KEY, Cart, Chat, Message

NAME = "__Host-chat"


class Said(BaseModel):
    text: str


async def person(x_user: Annotated[str | None, Header()] = None) -> str | None:
    return x_user


def application(**settings):  # noqa: C901, PLR0915  one handler after another
    """An application, its tokens, and what its background tasks ran into."""
    tokens = Tokens(**{"keys": [KEY], "clock": ManualClock(), **settings})
    app = FastAPI(lifespan=tokens.lifespan)
    by_cookie = Annotated[Chat, tokens.cookie(Chat, "chat")]
    by_header = Annotated[Chat, tokens.header(Chat, "X-Chat")]
    by_body = Annotated[Chat, tokens.body(Chat, "chat")]
    of_user = Annotated[Chat, tokens.cookie(Chat, "chat", session=person, tenant=lambda: "shop")]
    cart = Annotated[Cart, tokens.cookie(Cart, "cart", same_site="strict", path="/cart")]
    app.state.raised = []

    @app.post("/cookie")
    async def cookie(said: Said, chat: by_cookie) -> dict[str, int]:
        chat.history.append(Message("user", said.text))
        chat.turns += 1
        return {"turns": chat.turns}

    @app.get("/cookie")
    def read(chat: by_cookie) -> dict[str, object]:
        return {"turns": chat.turns, "exists": chat.meta.exists}

    @app.post("/sync")
    def sync(said: Said, chat: by_cookie) -> dict[str, int]:
        chat.turns += 1
        return {"turns": chat.turns}

    @app.post("/header")
    async def header(chat: by_header) -> dict[str, int]:
        chat.turns += 1
        return {"turns": chat.turns}

    @app.post("/body")
    async def body(said: Said, chat: by_body) -> dict[str, object]:
        chat.turns += 1
        return {"b": chat.turns, "a": said.text}

    @app.post("/body/text")
    async def text(said: Said, chat: by_body) -> PlainTextResponse:
        chat.turns += 1
        return PlainTextResponse("no JSON")

    @app.post("/user")
    async def user(said: Said, chat: of_user) -> dict[str, object]:
        chat.turns += 1
        return {"turns": chat.turns, "id": chat.meta.id}

    @app.post("/cart")
    async def both(said: Said, chat: by_cookie, basket: cart) -> dict[str, int]:
        chat.turns += 1
        basket.items.append(said.text)
        return {"turns": chat.turns, "items": len(basket.items)}

    @app.post("/fails/{how}")
    async def fails(how: str, said: Said, chat: by_cookie) -> None:
        chat.turns += 100
        if how == "http":
            raise HTTPException(418, "no")
        raise ZeroDivisionError

    @app.post("/large")
    async def large(said: Said, chat: by_cookie) -> None:
        chat.filters["x"] = "".join(map(chr, range(300, 6000)))

    @app.post("/returns")
    async def returns(said: Said, chat: by_cookie) -> JSONResponse:
        chat.turns += 1
        return JSONResponse({"turns": chat.turns}, 201, {"cache-control": "max-age=99"})

    @app.post("/stream")
    async def stream(said: Said, chat: by_cookie, late: bool = False) -> StreamingResponse:
        chat.turns += 1

        async def parts():
            yield f"turn {chat.turns}"
            if late:
                try:
                    chat.turns += 1
                except RuntimeError as error:
                    app.state.raised.append(error)
            yield " is over"

        return StreamingResponse(parts())

    @app.post("/background")
    async def background(said: Said, chat: by_cookie, tasks: BackgroundTasks) -> None:
        def later():
            try:
                chat.history.append(Message("user", "too late"))
            except RuntimeError as error:
                app.state.raised.append(error)

        tasks.add_task(later)

    @app.post("/delete")
    async def delete(said: Said, chat: by_cookie) -> None:
        await tokens.store.collection(Chat).delete(chat.meta.id)

    return app, tokens


@pytest.fixture
def opened():
    """Makes running applications and clients with a cookie jar."""
    clients = []

    def make(**settings):
        app, tokens = application(**settings)
        client = TestClient(app, base_url="https://shop.example", raise_server_exceptions=False)
        clients.append(client.__enter__())
        client.tokens = tokens
        client.clock = tokens._clock
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(opened):
    return opened()


SAID = {"text": "hello"}


def test_a_cookie_goes_around(client):
    for turns in range(1, 6):
        assert client.post("/cookie", json=SAID).json() == {"turns": turns}
    assert client.post("/sync", json=SAID).json() == {"turns": 6}
    answer = client.get("/cookie")
    assert answer.json() == {"turns": 6, "exists": True}
    assert "set-cookie" not in answer.headers  # nothing new, nothing sent


def test_the_cookies_flags(client):
    answer = client.post("/cookie", json=SAID)
    name, _, flags = answer.headers["set-cookie"].partition("=")
    assert name == NAME
    assert set(flags.split("; ")[1:]) == {
        "HttpOnly",
        "Max-Age=3600",
        "Path=/",
        "SameSite=lax",
        "Secure",
    }
    assert answer.headers["cache-control"] == "no-store"
    cart = client.post("/cart", json=SAID).headers.get_list("set-cookie")[0]
    assert cart.startswith("cart=")
    assert "Path=/cart" in cart
    assert "SameSite=strict" in cart


def test_cookies_that_cannot_be():
    with pytest.raises(ConfigError, match="secure"):
        Cookie("chat", same_site="none", secure=False)
    with pytest.raises(ConfigError, match="Illegal"):
        Cookie("a b")


def test_a_header_goes_around(client):
    first = client.post("/header")
    second = client.post("/header", headers={"X-Chat": first.headers["x-chat"]})
    assert second.json() == {"turns": 2}
    assert client.post("/header").json() == {"turns": 1}


def test_a_body_field_goes_around(client):
    first = client.post("/body", json=SAID).json()
    assert list(first) == ["b", "a", "chat"]
    answer = client.post("/body", json={**SAID, "chat": first["chat"]})
    assert answer.json()["b"] == 2
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert client.post("/body", json={**SAID, "chat": None}).json()["b"] == 1
    assert client.post("/body", content=b"{").status_code == 422
    assert client.post("/body/text", json=SAID).status_code == 500


@pytest.mark.parametrize("found", [7, 0, False, {}, [], ["x"]])
def test_a_body_field_that_is_no_text_is_refused(opened, found):
    answer = opened().post("/body", json={**SAID, "chat": found})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("tampered: ")
    answer = opened(on_refused="fresh").post("/body", json={**SAID, "chat": found})
    assert answer.json()["b"] == 1


def test_a_body_that_is_compressed_before_the_token_is_put_in():
    app, _ = application()
    app.add_middleware(GZipMiddleware, minimum_size=0)
    with TestClient(app) as client:
        with pytest.raises(RuntimeError, match=r"without content-encoding \(gzip\)"):
            client.post("/body", json=SAID)
        assert client.post("/cookie", json=SAID).status_code == 200


def test_a_body_that_is_compressed_around_the_application():
    app, _ = application()
    with TestClient(GZipMiddleware(app, minimum_size=0)) as client:
        answer = client.post("/body", json=SAID)
        assert answer.headers["content-encoding"] == "gzip"
        answer = client.post("/body", json={**SAID, "chat": answer.json()["chat"]})
        assert answer.json()["b"] == 2


def test_two_states_at_once(client):
    client.post("/cart", json=SAID)
    assert client.post("/cart", json=SAID).json() == {"turns": 2, "items": 2}
    assert client.post("/cookie", json=SAID).json() == {"turns": 3}


@pytest.mark.parametrize(("how", "status"), [("http", 418), ("error", 500)])
def test_a_handler_that_raises_has_changed_nothing(client, how, status):
    client.post("/cookie", json=SAID)
    answer = client.post(f"/fails/{how}", json=SAID)
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers
    assert client.get("/cookie").json()["turns"] == 1


def test_a_token_too_large_is_413_with_the_sizes(client):
    client.post("/cookie", json=SAID)
    answer = client.post("/large", json=SAID)
    assert answer.status_code == 413
    assert "filters" in answer.json()["detail"]
    assert client.get("/cookie").json()["turns"] == 1


def test_a_response_of_its_own_carries_the_token_too(client):
    answer = client.post("/returns", json=SAID)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert client.get("/cookie").json()["turns"] == 1


def test_a_stream_carries_what_was_done_before_it_began(client):
    answer = client.post("/stream", json=SAID)
    assert answer.text == "turn 1 is over"
    assert client.get("/cookie").json()["turns"] == 1
    assert not client.app.state.raised


def test_a_change_after_the_response_began_is_an_error_not_a_loss(client):
    client.post("/stream?late=true", json=SAID)
    client.post("/background", json=SAID)
    assert len(client.app.state.raised) == 2
    assert "the response has begun" in str(client.app.state.raised[0])


def test_a_deleted_state_takes_its_cookie_along(client):
    client.post("/cookie", json=SAID)
    answer = client.post("/delete", json=SAID)
    assert f'{NAME}=""; ' in answer.headers["set-cookie"]
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert NAME not in client.cookies
    assert client.get("/cookie").json() == {"turns": 0, "exists": False}


def altered(client):
    token = client.cookies[NAME]
    at = len(token) // 2
    client.cookies.clear()
    client.cookies.set(NAME, token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :])


def test_an_altered_token_is_refused_and_forgotten(client):
    client.post("/cookie", json=SAID)
    altered(client)
    answer = client.post("/cookie", json=SAID)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("tampered: ")
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_a_token_of_an_unknown_key_is_refused_and_not_forgotten(opened):
    client = opened()
    client.post("/cookie", json=SAID)
    token = client.cookies[NAME]
    answer = opened(keys=[Key.new()]).get("/cookie", headers={"cookie": f"{NAME}={token}"})
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers  # another replica may know the key already


def test_or_begun_anew(opened):
    client = opened(on_refused="fresh")
    client.post("/cookie", json=SAID)
    altered(client)
    answer = client.post("/cookie", json=SAID)
    assert answer.json() == {"turns": 1}
    assert len(answer.headers["set-cookie"]) > 100


def test_whose_it_must_be(client):
    alice = {"X-User": "alice"}
    assert client.post("/user", json=SAID, headers=alice).json() == {"turns": 1, "id": "alice"}
    assert client.post("/user", json=SAID, headers=alice).json()["turns"] == 2
    assert client.post("/user", json=SAID, headers={"X-User": "mallory"}).status_code == 400
    client.cookies.clear()
    client.post("/cookie", json=SAID)
    answer = client.post("/user", json=SAID, headers=alice)  # of another tenant
    assert answer.status_code == 400


def test_an_id_that_nobody_can_guess(client):
    ids = set()
    for _ in range(20):
        client.cookies.clear()
        ids.add(client.post("/user", json=SAID).json()["id"])
    assert len(ids) == 20
    assert min(map(len, ids)) >= 22


def test_expired_is_a_new_beginning(client):
    client.post("/cookie", json=SAID)
    client.clock.advance(3600)
    client.cookies.set(NAME, client.cookies[NAME])
    assert client.post("/cookie", json=SAID).json() == {"turns": 1}


def test_old_and_revoked_tokens(opened):
    client = opened(registry="memory://")
    client.post("/cookie", json=SAID)
    old = client.cookies[NAME]
    client.post("/cookie", json=SAID)
    new = client.cookies[NAME]
    answer = client.post("/cookie", json=SAID, headers={"cookie": f"{NAME}={old}"})
    assert answer.status_code == 409
    assert "set-cookie" not in answer.headers  # a newer one may be there already
    store = client.tokens.store
    client.portal.call(lambda: revoke(store.collection(Chat), before=client.clock.now() + 1))
    client.cookies.clear()
    answer = client.post("/cookie", json=SAID, headers={"cookie": f"{NAME}={new}"})
    assert answer.status_code == 403
    assert "Max-Age=0" in answer.headers["set-cookie"]


def test_parallel_requests_of_one_client_lose_nothing_in_silence():
    """Of updates from the same token one is accepted, the others are told (409)."""

    async def main():
        app, _ = application(registry="memory://")
        transport = httpx2.ASGITransport(app)
        lifespan = app.router.lifespan_context
        async with (
            lifespan(app),
            httpx2.AsyncClient(transport=transport, base_url="https://shop.example") as client,
        ):
            first = await client.post("/cookie", json=SAID)
            cookie = {"cookie": f"{NAME}={first.cookies[NAME]}"}
            answers = await asyncio.gather(
                *(client.post("/cookie", json=SAID, headers=cookie) for _ in range(8))
            )
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200] + [409] * 7

    asyncio.run(main())


def test_without_its_lifespan_it_says_so():
    app, tokens = application()
    with pytest.raises(ConfigError, match="lifespan"):
        TestClient(app).post("/cookie", json=SAID)
    with pytest.raises(ConfigError, match="lifespan"):
        _ = tokens.store


def test_an_application_may_start_again():
    app, _ = application()
    for turns in (1, 1):
        with TestClient(app, base_url="https://shop.example") as client:
            answer = client.post("/cookie", json=SAID)
            assert answer.json() == {"turns": turns}
            assert len(answer.headers.get_list("set-cookie")) == 1


def test_starlette_alone():
    tokens = starlette.Tokens(keys=[Key.new()])
    cookie = Cookie("chat")

    async def say(request):
        async with tokens.open(request, Chat, cookie) as chat:
            chat.turns += 1
            return StarletteJSON({"turns": chat.turns})

    app = Starlette(routes=[Route("/", say)], lifespan=tokens.lifespan)
    with TestClient(app, base_url="https://shop.example") as client:
        assert client.get("/").json() == {"turns": 1}
        assert client.get("/").json() == {"turns": 2}
        client.cookies.set(NAME, "x")
        assert client.get("/", headers={"cookie": f"{NAME}=nonsense"}).status_code == 400
