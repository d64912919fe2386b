"""A conversation in a page, kept by nothing but the browser. Run by uvicorn; keys in TALK_KEYS."""

from html import escape
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from statehold.integrations.fastapi import Tokens
from tests.token.chats import Chat, Message

tokens = Tokens(keys="env:TALK_KEYS", form="signed", trim="history")
app = FastAPI(lifespan=tokens.lifespan)
MyChat = Annotated[Chat, tokens.cookie(Chat, "chat", http_only=False)]

PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<h1>{title}</h1><ol id="said">{said}</ol><p id="turns">{turns}</p><p id="own"></p>
<form method="post" action="/say"><input name="text" autofocus><button>Say</button></form>
<nav><a id="other" href="{other}">the other page</a></nav>
<script>
  const found = document.cookie.split("; ").find(each => each.startsWith("__Host-chat="));
  if (found) {{
    const page = found.slice(12).split(".")[0].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(page), char => char.charCodeAt(0));
    const state = JSON.parse(new TextDecoder().decode(bytes));
    document.getElementById("own").textContent =
      state.fields.history.map(each => each.content).join(" | ");
  }}
</script>"""


def page(chat, title, other):
    said = "".join(f"<li>{escape(each.role)}: {escape(each.content)}" for each in chat.history)
    return PAGE.format(title=title, said=said, turns=int(chat.turns), other=other)


@app.get("/", response_class=HTMLResponse)
async def talk(chat: MyChat) -> str:
    return page(chat, "Talk", "/again")


@app.get("/again", response_class=HTMLResponse)
def again(chat: MyChat) -> str:
    return page(chat, "Again", "/")


@app.post("/say", response_class=RedirectResponse, status_code=303)
async def say(chat: MyChat, request: Request) -> str:
    (text,) = parse_qs((await request.body()).decode())["text"]
    chat.history.append(Message("user", text), Message("assistant", f"You said {text}"))
    chat.turns += 1
    return "/"
