"""What the cases through the faces share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from statehold.driver import Driver, Feature
from statehold.testing.backend import Backend
from statehold.testing.conformance.base import Cases
from statehold.testing.face import FACES, Face

OpenFace: TypeAlias = Callable[..., Face]


class FaceCases(Cases):
    """Cases that are run through both faces."""

    @pytest.fixture(params=FACES)
    def open_face(self, backend: Backend, request: pytest.FixtureRequest) -> Iterator[OpenFace]:
        """Opens a store over the backend, with the driver wrapped in something if need be."""
        opened: list[Face] = []

        def open_(wrap: Callable[[Driver], Driver] | None = None) -> Face:
            opened.append(Face(backend, request.param, wrap))
            return opened[-1]

        yield open_
        for face in opened:
            face.close()

    @pytest.fixture
    def face(self, open_face: OpenFace) -> Face:
        """A store over the backend, asynchronous or synchronous."""
        return open_face()


def need(face: Face, *features: Feature) -> None:
    """Skip the case unless the driver declares these."""
    missing = [feature.name for feature in features if not face.has(feature)]
    if missing:
        pytest.skip(f"the driver does not declare {', '.join(missing)}")
