"""What the tests of tokens share: a chat, a key, a client with a clock that is moved by hand."""

from datetime import timedelta

import msgspec

from statehold import Counter, Log, ManualClock, Map, Register, State, Store, Vector
from statehold.tokens import Jar, Key


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class Chat(State, ttl=timedelta(hours=1)):
    history = Log(Message, keep=100)
    filters = Map(str, str, keep=32)
    focus = Register(str | None, default=None)
    turns = Counter()
    taste = Vector(384)


class Cart(State, ttl=timedelta(hours=1)):
    items = Log(str, keep=10)


KEY = Key.new()


class Client:
    """A client with its token, and the server that it speaks to."""

    def __init__(self, **settings):
        self.clock = ManualClock()
        self.settings = {"keys": [KEY], **settings}
        self.store = Store.open("token:", clock=self.clock, **self.settings)
        self.chats = self.store.collection(Chat)
        self.token = None

    def say(self, text, *, id="abc", token=None):
        """One turn; the client keeps the new token, which is returned."""
        with Jar(token or self.token) as jar, self.chats.session(id) as chat:
            chat.history.append(Message("user", text), Message("assistant", f"about {text}"))
            chat.turns += 1
        self.token = jar.token
        return jar.token

    def see(self, token=None, *, id="abc"):
        """The chat of a token."""
        with Jar(token or self.token):
            return self.chats.get(id)
