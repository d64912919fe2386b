"""What the visitor means: a few rules, read from top to bottom. No model, and no pretending.

"Show me blue ones under $150" becomes slots (`colour: blue`, `max_price: 150`); words that no rule
knows are left for the text search; what neither knows is reported as not understood.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import msgspec

from examples.shop.catalogue import COLOURS, SHADES

Act = Literal["search", "like", "else", "cheaper", "restart"]


class Wish(msgspec.Struct, frozen=True):
    """What an utterance asks for."""

    act: Act = "search"
    put: dict[str, str | float] = {}
    """Slots that it fills: kind, words, colour, not_colour, min_price, max_price."""
    drop: frozenset[str] = frozenset()
    """Slots that it empties ("any colour")."""
    unknown: tuple[str, ...] = ()
    """Words that mean nothing to this shop."""

    @property
    def empty(self) -> bool:
        """Whether nothing in it was understood."""
        return self.act == "search" and not self.put and not self.drop


ACTS: tuple[tuple[Act, str], ...] = (
    ("restart", r"start (?:over|again|afresh)|new search|reset|forget (?:it|that|all|everything)"),
    ("like", r"(?:like|similar to) (?:that|this|it|those|these)(?: ones?)?|similar(?: ones)?"),
    ("else", r"(?:some|any)thing (?:else|different)|(?:the )?others?(?: ones)?|show (?:me )?more"),
    ("cheaper", r"cheaper|less expensive|too (?:expensive|dear|pricey|much)"),
)

_MONEY = r"[$€£]?\s*(\d+(?:,\d{3})*(?:\.\d+)?)(?:\s*(?:dollars|bucks|euros?|usd))?"
_BETWEEN = re.compile(rf"(?:between|from)\s+{_MONEY}\s+(?:and|to)\s+{_MONEY}")
_AT_LEAST = re.compile(
    rf"(?:over|above|(?<!no )(?<!not )more than|at least|from|min(?:imum)?)\s+{_MONEY}"
)
_AT_MOST = re.compile(
    rf"(?:under|below|less than|up to|at most|not? more than|max(?:imum)?(?: of)?|within)\s+{_MONEY}"
    r"|[$€£]\s*(\d+(?:,\d{3})*(?:\.\d+)?)"
)
_ANY = re.compile(r"\b(?:any|whatever|every|all) (colou?r|price)s?\b")
_SHADE = rf"(?:{'|'.join(SHADES)})"
_NOT_COLOUR = re.compile(rf"\b(?:not|no|but|except|without|nothing) (?:in )?({_SHADE})\b")
_COLOUR = re.compile(rf"\b({_SHADE})\b")

SYNONYMS = {
    "shoe": ("footwear",),
    "running shoe": ("running shoe", "sneaker"),
    "runner": ("running shoe", "sneaker"),
    "trainer": ("running shoe", "sneaker"),
    "trail shoe": ("running shoe",),
    "hiking boot": ("boot",),
    "coat": ("jacket",),
    "tee": ("shirt",),
    "clothe": ("apparel",),
    "hat": ("cap",),
    "beanie": ("cap",),
    "rucksack": ("backpack",),
    "couch": ("sofas",),
    "lamp": ("lighting",),
}
"""What people say → what catalogues call it; the first that this catalogue has."""


def terms(text: str) -> list[str]:
    """The words of a text, in lower case and mostly in the singular."""
    return [_singular(word) for word in re.findall(r"[a-z]+", text.lower().replace("'", ""))]


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


FILLER = frozenset(
    terms(
        """a about also am an and any anything are at be but buy can could do except find for from get give
        good got have hello help hey hi i id im in is it just let like liked look looking maybe me
        more my need nice no not nothing of ok okay on one ones only or our out pair please really
        see shop should show some something sort thank that the their them then there these thing
        this those to today try us very want was we what which with without would yes you your
        kind colour color price"""
    )
)
"""Words that say nothing about a product."""


def understand(text: str, kinds: Collection[str], vocabulary: Collection[str]) -> Wish:
    """What the text asks for, given the kinds and the words that the catalogue has."""
    rest = " ".join(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())
    act: Act = "search"
    for name, pattern in ACTS:
        found = re.search(rf"\b(?:{pattern})\b", rest)
        if found:
            act = name
            rest = rest.replace(found[0], " ")
            break
    drop = {"colour" if found[1].startswith("col") else "price" for found in _ANY.finditer(rest)}
    rest = _ANY.sub(" ", rest)
    put: dict[str, str | float] = {}
    rest = _prices(rest, put)
    rest = _colours(rest, put)
    if "price" in drop:
        drop = drop - {"price"} | {"min_price", "max_price"}
    if "colour" in drop:
        drop.add("not_colour")
    left = [term for term in terms(rest) if term not in FILLER]
    kind = _kind(terms(rest), kinds)
    if kind is not None:
        put["kind"] = kind
    known = [term for term in left if term in vocabulary]
    if known:
        put["words"] = " ".join(known)
    unknown = () if kind is not None else tuple(term for term in left if term not in vocabulary)
    return Wish(act, put, frozenset(drop - put.keys()), unknown)


def described(filters: Mapping[str, str | float]) -> str:
    """The filters in words: "blue running shoes under $150"."""
    parts = [str(filters.get("colour", ""))]
    if "not_colour" in filters:
        parts.append(f"not {filters['not_colour']}")
    kind = terms(str(filters.get("kind", "thing")))
    parts.append(_plural(" ".join(kind)))
    low, high = filters.get("min_price"), filters.get("max_price")
    if low is not None and high is not None:
        parts.append(f"from ${low:g} to ${high:g}")
    elif low is not None:
        parts.append(f"from ${low:g}")
    elif high is not None:
        parts.append(f"up to ${high:g}")
    words = [word for word in str(filters.get("words", "")).split() if word not in kind]
    if words:
        parts.append(f"({' '.join(words)})")
    return " ".join(filter(None, parts))


def _prices(text: str, put: dict[str, str | float]) -> str:
    for pattern, slots in (
        (_BETWEEN, ("min_price", "max_price")),
        (_AT_LEAST, ("min_price",)),
        (_AT_MOST, ("max_price",)),
    ):
        found = pattern.search(text)
        if found:
            amounts = [float(group.replace(",", "")) for group in found.groups() if group]
            put.update(zip(slots, sorted(amounts), strict=False))
            text = text.replace(found[0], " ")
    return text


def _colours(text: str, put: dict[str, str | float]) -> str:
    for pattern, slot in ((_NOT_COLOUR, "not_colour"), (_COLOUR, "colour")):
        found = {SHADES[match[1]][0] for match in pattern.finditer(text)}
        if found:
            put[slot] = " or ".join(colour for colour in COLOURS if colour in found)
            text = pattern.sub(" ", text)
    return text


def _kind(said: list[str], kinds: Collection[str]) -> str | None:
    """The kind of product named by the longest run of words, the latest of equals."""
    by_name = {" ".join(terms(kind)): kind for kind in kinds}
    for size in (3, 2, 1):
        for at in range(len(said) - size, -1, -1):
            phrase = " ".join(said[at : at + size])
            for name in (phrase, *SYNONYMS.get(phrase, ())):
                kind = by_name.get(" ".join(terms(name)))
                if kind is not None:
                    return kind
    return None


def _plural(words: str) -> str:
    if words.endswith("s"):
        return words
    return words + ("es" if words.endswith(("ch", "sh", "x")) else "s")


def known_terms(texts: Iterable[str]) -> frozenset[str]:
    """All words of the texts."""
    return frozenset(term for text in texts for term in terms(text))
