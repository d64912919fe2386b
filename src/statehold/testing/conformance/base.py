"""What all groups of cases share: the backend, the rig, and how a case is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from statehold.driver import Feature
from statehold.testing.backend import Backend
from statehold.testing.rig import Rig


class Cases:
    """A group of cases. Subclasses give the `backend`."""

    @pytest.fixture
    def backend(self) -> Backend:
        """Where the driver under test keeps its data; see `statehold.testing`."""
        raise NotImplementedError("give your test class a fixture `backend`, see statehold.testing")

    @pytest.fixture
    def rig(self, backend: Backend) -> Iterator[Rig]:
        """A driver of the backend, open, with a tenant of its own."""
        rig = Rig(backend)
        yield rig
        rig.close()


def need(rig: Rig, *features: Feature) -> None:
    """Skip the case unless the driver declares these."""
    missing = [feature.name for feature in features if not rig.has(feature)]
    if missing:
        pytest.skip(f"the driver does not declare {', '.join(missing)}")


def need_raw(rig: Rig) -> Callable[[], bytes]:
    """All that is stored. Skip the case unless the backend shows it."""
    if rig.backend.raw is None:
        pytest.skip("the backend has no hook `raw`")
    return rig.backend.raw


def need_given_clock(rig: Rig) -> None:
    """Skip the case where time cannot be moved to the instant."""
    if not rig.exact:
        pytest.skip("the driver has a clock of its own")
