"""Conformance of a second way to the same backend: grouped, portable, signed instead of sealed."""

from statehold.testing import DriverConformance, stateful


class Variant(DriverConformance):
    """Every case of the driver, a part of the machine's steps, and a sample of the cases of the API.

    Those know nothing of the way; the backend's first class has them all (see conftest.py).
    """

    is_variant = True

    def test_driver_and_model_agree(self, backend):
        """The machine plays its whole part on the backend's first way."""
        stateful.run(backend, examples=8)
