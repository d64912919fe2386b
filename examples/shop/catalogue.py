"""The products: the shop's own small catalogue, or the retail one of `STATEHOLD_DATA`.

The own one says the colour of each product. The retail one has colours only in its texts, so they
are read from there: those in the name, or else the first one that the description mentions.
"""

import gzip
import hashlib
import re
import tomllib
from pathlib import Path

import msgspec

RETAIL = "retail_products.yaml.gz"

SHADES = {
    "black": ("black", "#2b2d33"), "charcoal": ("black", "#43474f"), "jet": ("black", "#26282d"),
    "white": ("white", "#eef0f2"), "ivory": ("white", "#f4efdf"), "cream": ("white", "#f1e8d3"),
    "grey": ("grey", "#8b929c"), "gray": ("grey", "#8b929c"), "slate": ("grey", "#6d7885"),
    "silver": ("grey", "#b4bac2"), "blue": ("blue", "#2f6fdb"), "navy": ("blue", "#24406f"),
    "cobalt": ("blue", "#2457d6"), "sky": ("blue", "#6db3ee"), "azure": ("blue", "#3c9be8"),
    "indigo": ("blue", "#3f4aa8"), "denim": ("blue", "#4a6c9b"), "teal": ("teal", "#1f8f8a"),
    "turquoise": ("teal", "#2bb3ad"), "aqua": ("teal", "#4cc4c4"), "green": ("green", "#3d9a50"),
    "forest": ("green", "#2f6b46"), "olive": ("green", "#7a7f3a"), "mint": ("green", "#9fd8b4"),
    "yellow": ("yellow", "#f0c52e"), "lemon": ("yellow", "#f2d94a"), "gold": ("yellow", "#cfa53a"),
    "orange": ("orange", "#ef8a2f"), "ember": ("orange", "#e2672a"), "red": ("red", "#d23b3b"),
    "scarlet": ("red", "#d8322f"), "crimson": ("red", "#b3213a"), "burgundy": ("red", "#7c2438"),
    "coral": ("pink", "#f4846f"), "pink": ("pink", "#ee8fb0"), "rose": ("pink", "#e4809c"),
    "purple": ("purple", "#7f53b5"), "plum": ("purple", "#6d3a72"), "lilac": ("purple", "#b59ad9"),
    "lavender": ("purple", "#b3a1dd"), "brown": ("brown", "#7b5236"), "walnut": ("brown", "#6a4631"),
    "tan": ("brown", "#c49a6c"), "beige": ("brown", "#d9c6a3"), "sand": ("brown", "#d3bb92"),
    "khaki": ("brown", "#b3a26f"), "caramel": ("brown", "#b77a3f"),
}  # fmt: skip
"""A shade's name → (the colour it counts as, how it is drawn)."""

COLOURS = tuple(dict.fromkeys(colour for colour, _ in SHADES.values()))
"""The colours that can be asked for."""

_SHADE = re.compile(rf"\b({'|'.join(SHADES)})\b", re.IGNORECASE)
_JOINED = re.compile(r"(?:-| |, | and |, and | & )*", re.IGNORECASE)


class Product(msgspec.Struct, frozen=True):
    """One thing that can be bought."""

    id: str
    name: str
    category: str
    style: str
    price: float
    text: str
    colours: tuple[str, ...]
    """What it counts as when a colour is asked for; several for "navy and black"."""
    swatches: tuple[str, ...]
    """How its picture is coloured, each "#rrggbb"; none if no colour is known."""


class Catalogue(msgspec.Struct, frozen=True):
    """All products, in a fixed order."""

    name: str
    products: tuple[Product, ...]

    @property
    def version(self) -> str:
        """Differs when any product does. Vectors of one version mean nothing to another."""
        content = msgspec.json.encode(self.products)
        return f"{self.name}-{hashlib.sha256(content).hexdigest()[:8]}"


def load(folder: Path | None) -> Catalogue:
    """The retail catalogue of this folder, or the shop's own if there is none."""
    if folder is not None and (folder / RETAIL).is_file():
        return _retail(folder / RETAIL)
    return _own(Path(__file__).with_name("catalogue.toml"))


def _own(path: Path) -> Catalogue:
    products = []
    for model in tomllib.loads(path.read_text("utf-8"))["model"]:
        for shade in model["colours"]:
            colour, swatch = SHADES[shade]
            name = f"{model['name']} {shade}"
            products.append(
                Product(
                    id=re.sub(r"[^a-z0-9]+", "-", name.lower()),
                    name=name,
                    category=model["category"],
                    style=model["style"],
                    price=float(model["price"]),
                    text=model["text"],
                    colours=(colour,),
                    swatches=(swatch,),
                )
            )
    return Catalogue("own", tuple(products))


def _retail(path: Path) -> Catalogue:
    import yaml  # only this catalogue needs it

    with gzip.open(path, "rt", encoding="utf-8") as file:
        entries = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    products = []
    for entry in entries:
        shades = shades_in(entry["name"], entry["description"])
        products.append(
            Product(
                id=entry["id"],
                name=entry["name"],
                category=entry["category"],
                style=entry["style"],
                price=float(entry["price"]),
                text=entry["description"],
                colours=tuple(dict.fromkeys(SHADES[shade][0] for shade in shades)),
                swatches=tuple(SHADES[shade][1] for shade in shades),
            )
        )
    return Catalogue("retail", tuple(products))


def shades_in(name: str, text: str) -> list[str]:
    """The shades of a product: those in its name, or else the first in its text.

    What follows the first one directly belongs to it: "navy blue", "brown and navy". What is named
    later is left out, as it is mostly a sole or a stripe.
    """
    found = [match[1].lower() for match in _SHADE.finditer(name)]
    if found:
        return found
    end = None
    for match in _SHADE.finditer(text):
        if end is not None and not _JOINED.fullmatch(text, end, match.start()):
            break
        found.append(match[1].lower())
        end = match.end()
    return found
