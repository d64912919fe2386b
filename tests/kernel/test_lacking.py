"""What a backend lacks is told in the words of who called."""

import pytest
from sample import Everything

from statehold import Store, Unsupported
from statehold.driver import Feature
from statehold.drivers.memory import MemoryDriver
from statehold.middleware.metrics import Metrics
from statehold.store.asking import _NEEDED_BY
from statehold.testing.face import Without

NEVER_ASKED = {Feature.SHARED, Feature.DURABLE, Feature.WHOLE_LIVES}
"""What no call of a collection needs."""


def test_it_is_said_with_the_call_the_backend_and_where_it_can_be_had():
    """Under middleware too."""

    def told(driver, call):
        with Store(driver) as store, pytest.raises(Unsupported) as caught:
            call(store, store.collection(Everything))
        return str(caught.value)

    def without(feature):
        return Without(feature)(MemoryDriver())

    leased = told(without(Feature.CLAIM), lambda _, them: them.lease("a", ttl=5).acquire())
    assert leased == (
        "lease(): the backend 'faulty' does not support it (claim); memory, SQLite, SQL and Redis do"
    )
    listed = told(without(Feature.SCAN), lambda _, them: list(them.scan()))
    assert listed.startswith("scan() and pages of all states: ")
    about = told(Metrics(without(Feature.SUBJECT)), lambda _, them: them.apply("a", subject="ann"))
    assert about.startswith("subject= and find(): the backend 'faulty' ")
    both = told(without(Feature.TOGETHER), lambda store, them: store.apply_together(them.step("a")))
    assert "apply_together(): " in both
    assert "Redis (outside a cluster) do; elsewhere keep what belongs together in one state" in both
    for feature in Feature:
        assert feature in _NEEDED_BY or feature in NEVER_ASKED
