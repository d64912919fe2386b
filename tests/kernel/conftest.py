"""Fixtures of the kernel's tests."""

import pytest
import sample


@pytest.fixture
def collection():
    """A collection of `sample.Everything` in memory."""
    with sample.opened() as (collection, _):
        yield collection
