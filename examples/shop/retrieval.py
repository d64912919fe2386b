"""Which products fit: text search, likeness, taste, and what was ignored, in one ranking."""

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.preprocessing import normalize

from examples.shop.catalogue import Catalogue, Product
from examples.shop.state import DIM
from examples.shop.understanding import terms

Floats = npt.NDArray[np.float64]

TASTE = 0.6
"""What a perfect match with the visitor's taste adds; a perfect match with the words adds 1."""
SINK = 0.1
"""What a product loses for each time that it was ignored …"""
SINK_AT_MOST = 8
"""… which counts up to so many times."""


class Ranked(msgspec.Struct, frozen=True):
    """A product with what puts it where it is; the score is their sum."""

    product: Product
    relevance: float
    taste: float
    ignored: float

    @property
    def score(self) -> float:
        """What the ranking goes by."""
        return self.relevance + self.taste + self.ignored


class Index:
    """The catalogue as vectors: TF-IDF, and reduced by SVD to `DIM` numbers of length 1."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.by_id = {product.id: at for at, product in enumerate(catalogue.products)}
        self.kinds = {kind for p in catalogue.products for kind in (p.style, p.category)}
        self._tfidf = TfidfVectorizer(analyzer=_analyse, sublinear_tf=True)
        self._words = self._tfidf.fit_transform(
            f"{p.name} {p.name} {p.style} {p.style} {p.category} {p.text}"  # a name counts double
            for p in catalogue.products
        )
        self._svd = TruncatedSVD(DIM, random_state=0)
        self.vectors: Floats = normalize(self._svd.fit_transform(self._words))
        self.vocabulary = frozenset(self._tfidf.vocabulary_)
        self._prices = np.array([product.price for product in catalogue.products])

    def __getitem__(self, id: str) -> Product:
        """The product with this id. Raises `KeyError`."""
        return self.catalogue.products[self.by_id[id]]

    def __contains__(self, id: str) -> bool:
        return id in self.by_id

    def vector(self, id: str) -> Floats:
        """Where a product is, of shape (DIM,)."""
        vector: Floats = self.vectors[self.by_id[id]]
        return vector

    def rank(
        self,
        filters: Mapping[str, str | float],
        *,
        taste: Floats | None = None,
        ignored: Mapping[str, float] | None = None,
    ) -> list[Ranked]:
        """The products that pass the filters, the best first."""
        fits = np.flatnonzero(self._fits(filters))
        relevance = self._relevance(filters)
        liked = np.zeros(len(relevance)) if taste is None else TASTE * self.vectors @ taste
        ignored = ignored or {}
        ranked = [
            Ranked(
                product,
                float(relevance[at]),
                float(liked[at]),
                0 - SINK * min(ignored.get(product.id, 0), SINK_AT_MOST),
            )
            for at, product in ((at, self.catalogue.products[at]) for at in fits)
        ]
        return sorted(ranked, key=lambda item: -item.score)

    def _relevance(self, filters: Mapping[str, str | float]) -> Floats:
        like = filters.get("like")
        if like in self.by_id:
            likeness: Floats = self.vectors @ self.vector(str(like))
            return likeness
        words = self._tfidf.transform([str(filters.get("words", ""))])
        if words.nnz == 0:
            return np.zeros(len(self.vectors))
        meaning = normalize(self._svd.transform(words))[0]
        exact = (self._words @ words.T).toarray()[:, 0]
        relevance: Floats = 0.5 * exact + 0.5 * (self.vectors @ meaning)
        return relevance

    def _fits(self, filters: Mapping[str, str | float]) -> npt.NDArray[np.bool_]:
        fits = self._prices >= float(filters.get("min_price", 0))
        fits &= self._prices <= float(filters.get("max_price", np.inf))
        kind, like = filters.get("kind"), filters.get("like")
        colours = set(str(filters.get("colour", "")).split(" or ")) - {""}
        others = set(str(filters.get("not_colour", "")).split(" or ")) - {""}
        for at in np.flatnonzero(fits):
            product = self.catalogue.products[at]
            fits[at] = (
                (kind is None or kind in (product.style, product.category))
                and (not colours or not colours.isdisjoint(product.colours))
                and others.isdisjoint(product.colours)
                and product.id != like
            )
        return fits


def _analyse(text: str) -> list[str]:
    return [term for term in terms(text) if term not in ENGLISH_STOP_WORDS]
