"""What some tests need that may be missing."""

import os
from typing import NoReturn

import pytest

REQUIRED = set(filter(None, os.environ.get("HOLDFAST_REQUIRE", "").split(",")))


def require(name: str, reason: str) -> NoReturn:
    """Skip the test, or fail it where HOLDFAST_REQUIRE names what is missing."""
    if name in REQUIRED:
        pytest.fail(f"{name} is required: {reason}", pytrace=False)
    pytest.skip(f"{name}: {reason}")
