"""A token of an older class opens through upcasters; one of a newer class is refused clearly."""

import pytest

from statehold import Counter, Log, Newer, Register, State, Store, TooLarge
from statehold.tokens import Jar, session_of
from tests.token.chats import KEY


class One(State, ttl=60, kind="order"):
    price = Register(int, default=0)
    lines = Log(str, keep=9)
    old = Counter()


class Two(State, ttl=60, kind="order"):
    price = Register(str, default="", version=2, upcast={1: lambda cents: f"{cents} cents"})
    rows = Log(str, keep=9, stored_as="lines")
    added = Register(bool, default=True)


class Three(State, ttl=60, kind="order"):
    price = Register(list[str], default=[], version=3, upcast={1: str, 2: lambda text: [text]})


@pytest.fixture(params=["sealed", "signed"])
def opened(request):
    """Opens a collection of a class in a store of its own, as each release does."""
    stores = []

    def collection(cls):
        stores.append(Store.open("token:", keys=[KEY], form=request.param))
        return stores[-1].collection(cls)

    yield collection
    for store in stores:
        store.close()


def written(states, *edits):
    with Jar() as jar:
        states.apply("x", *edits)
    return jar.token


def test_an_older_token_opens_and_goes_on(opened):
    token = written(opened(One), One.price.put(250), One.lines.append("a"), One.old.add(7))
    two = opened(Two)
    with Jar(token) as jar, two.session("x") as order:
        assert order.price == "250 cents"
        assert list(order.rows) == ["a"]
        assert order.added
        order.rows.append("b")
        order.price = "3 euros"
    with Jar(jar.token):
        assert opened(Three).get("x").price == ["3 euros"]
        assert list(two.get("x").rows) == ["a", "b"]


@pytest.mark.parametrize("edit", [Two.price.put("x"), Two.added.put(False)])
def test_a_newer_token_is_refused_clearly(opened, edit):
    """Whether or not the newer field has a value already."""
    token = written(opened(Two), edit)
    one = opened(One)
    with Jar(token) as jar:
        for call in (lambda: one.get("x"), lambda: one.apply("x", One.old.add(1))):
            with pytest.raises(Newer, match=r"price: the token holds version 2, .* up to 1"):
                call()
    assert jar.token == token  # good again with the newer class
    with pytest.raises(Newer):
        session_of(one, token)
    with Jar(token):
        assert opened(Two).get("x").meta.exists


def test_a_field_that_is_gone_again_is_no_hindrance(opened):
    token = written(opened(Three), Three.price.put(["x"]))

    class Later(State, ttl=60, kind="order"):
        note = Register(str, default="fine")

    with Jar(token):
        assert opened(Later).get("x").note == "fine"


def test_op_ids_are_few_and_still_exactly_once(opened):
    one = opened(One)
    token = None
    for n in range(40):
        with Jar(token) as jar:
            one.apply("x", One.old.add(1), op=f"op {n}")
            one.apply("x", One.old.add(1), op=f"op {n}")
        token = jar.token
    with Jar(token) as jar:
        one.apply("x", One.old.add(1), op="op 24")
        assert one.get("x").old == 40
    with Jar(token), pytest.raises(TooLarge):
        one.apply("x", One.lines.append("y" * 5000, "".join(map(chr, range(256, 9000)))))
