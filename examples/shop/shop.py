"""What the shop does: reads a visit, answers, and records on the visit what is to be remembered.

Nothing here knows where the visit is kept, or that there is a network.
"""

import os
from statistics import fmean

import numpy as np

from examples.shop.retrieval import Index, Ranked
from examples.shop.state import Message, Visit
from examples.shop.understanding import Wish, described, understand

PAGE = 6
"""How many products are shown at once."""
BESIDE_A_CLICK = 1
"""How much being on the page counts as ignored when another product is clicked …"""
TURNED_DOWN = 4
"""… and when the visitor asks for something else."""


def ranking(visit: Visit, index: Index) -> list[Ranked]:
    """All products that fit, the best for this visitor first."""
    mean = visit.taste.mean
    taste = None
    if mean is not None:
        weight = visit.taste.weight()  # fades, so that an old taste counts for less
        taste = mean / max(float(np.linalg.norm(mean)), 1e-12) * weight / (1 + weight)
    return index.rank(visit.filters, taste=taste, ignored=visit.ignored)


def say(visit: Visit, text: str, index: Index) -> str:
    """The shop's answer. The visit has what was understood, and both messages as one turn."""
    wish = understand(text, index.kinds, index.vocabulary)
    problem = _follow(visit, wish, index)
    reply = problem or _found(visit, show(visit, index), index)
    visit.conversation.append(Message("visitor", text), Message("shop", reply, os.getpid()))
    visit.turns += 1
    visit.rate.add()
    return reply


def click(visit: Visit, id: str, index: Index) -> None:
    """The product is what "that" means from now on, and its like come first."""
    visit.clicks.add(id)
    visit.trail.append(id)
    visit.taste.add(index.vector(id))
    visit.focus = id
    visit.ignored.drop(id)
    _ignore(visit, BESIDE_A_CLICK)
    visit.rate.add()
    show(visit, index)


def show(visit: Visit, index: Index) -> list[Ranked]:
    """The best products are on the page; all that fit are returned. The focus has its own place."""
    fits = [item for item in ranking(visit, index) if item.product.id != visit.focus]
    visit.shown = [item.product.id for item in fits[:PAGE]]
    return fits


def _follow(visit: Visit, wish: Wish, index: Index) -> str | None:
    """Change the visit as the wish says; what to answer instead if that cannot be done."""
    if wish.empty:
        what = f" ({', '.join(wish.unknown)})" if wish.unknown else ""
        return f"I did not understand that{what}. Tell me what you look for, a colour or a price."
    _fill_slots(visit, wish)
    if wish.act == "else":
        visit.filters.pop("like", None)
        _ignore(visit, TURNED_DOWN)
        if visit.focus:
            visit.ignored.add(visit.focus, TURNED_DOWN)
            visit.focus = None
    elif wish.act in ("like", "cheaper"):
        those = [visit.focus] if visit.focus else visit.shown
        if not those:
            return "Compared with what? Nothing has been shown yet."
        if wish.act == "like":
            visit.filters["like"] = visit.focus = those[0]
        else:
            mean = fmean(index[id].price for id in those)
            visit.filters["max_price"] = round(mean - 0.01, 2)
    return None


def _fill_slots(visit: Visit, wish: Wish) -> None:
    filters = visit.filters
    kind = filters.get("kind")
    if wish.act == "restart" or wish.put.get("kind", kind) != kind:  # another search begins
        filters.clear()
        visit.focus = None
    words = str(filters.get("words", "")).split()
    filters.update(wish.put)
    if "words" in wish.put:
        filters.pop("like", None)
        if "kind" not in wish.put:  # "waterproof" adds to "running shoes"
            words += str(wish.put["words"]).split()
            filters["words"] = " ".join(dict.fromkeys(words[-8:]))
    for slot in wish.drop & set(filters):
        del filters[slot]


def _ignore(visit: Visit, times: int) -> None:
    """What is on the page was passed over, except for the focus."""
    visit.ignored.update({id: times for id in visit.shown if id != visit.focus})


def _found(visit: Visit, fits: list[Ranked], index: Index) -> str:
    wanted = described(visit.filters)
    like = visit.filters.get("like")
    if isinstance(like, str) and like in index:
        wanted += f" like {index[like].name}"
    if not visit.filters:
        return "A fresh start. What are you looking for?"
    if not fits:
        return f"There are no {wanted}. Say “any colour” or “any price” to see more."
    return f"{len(fits)} {wanted}{'' if len(fits) <= PAGE else '; the best first'}."
