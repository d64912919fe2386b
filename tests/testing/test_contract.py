"""The page that lists the contract says what the cases say."""

from pathlib import Path

from statehold.testing.conformance import DriverConformance
from statehold.testing.contract import page
from statehold.testing.promises import PROMISES

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"


def cases():
    named = [name for name in dir(DriverConformance) if name.startswith("test_")]
    return {name: getattr(DriverConformance, name) for name in named}


def test_the_page_is_up_to_date():
    """`python -m statehold.testing.contract > docs/contract.md` would change nothing."""
    assert PAGE.read_text() == page()


def test_every_case_is_of_a_promise_and_says_what_it_protects():
    for name, case in cases().items():
        assert case.promise in PROMISES, name
        assert case.__doc__, name


def test_every_promise_has_cases():
    kept = [case.promise for case in cases().values()]
    assert sorted(set(kept)) == sorted(PROMISES)
    for number in PROMISES:
        assert kept.count(number) >= 2, PROMISES[number]
