"""The OpenAPI document tells the truth: Schemathesis finds nothing, within bounds and repeatably."""

import tempfile
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import negative_data_rejection

from statehold.server import create_app

from .conftest import BOTH, KEYS, KINDS, Served, free_port, load

# Float arrays are left out: which numbers fit them depends on more than a schema can say.
CHECKED = "".join(
    line for line in KINDS.splitlines(keepends=True) if not line.startswith(("backend", "taste"))
)
AUTHORIZED = {"Authorization": f"Bearer {BOTH}"}
EXAMPLES = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    load(folder, server=KEYS, kinds=CHECKED)
    found = Served(folder, free_port())
    yield found
    found.kill()


# A watch ends only with its server, so what is checked is all the others.
with tempfile.TemporaryDirectory() as folder:
    DOCUMENT = create_app(load(Path(folder), server=KEYS, kinds=CHECKED)).openapi()
# What is refused because of what is stored, or is more than fits, is no fault of the schema.
CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            "negative_data_rejection": {
                "expected-statuses": ["400", "401", "403", "404", "405", "412", "413", "415", "422"]
            },
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "304", "401", "403", "404", "409", "412", "413"]
            },
        }
    }
)
schema = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG).exclude(path_regex="/watch$")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_schemathesis_finds_nothing(case, server):
    if "x-schemathesis-unknown-property" in (case.headers or {}):
        return  # headers that a server does not know are none of its business
    base_url = f"http://127.0.0.1:{server.port}"
    if case.path.endswith("/batch") and case.meta.generation.mode.is_negative:
        # What is wrong with one part of a batch is told in that part's own result.
        answer = case.call_and_validate(
            base_url=base_url, headers=AUTHORIZED, excluded_checks=[negative_data_rejection]
        )
        results = [*answer.json().get("commit", []), *answer.json().get("read", [])]
        refused = answer.status_code != 200 or any(result["status"] != 200 for result in results)
        assert refused or only_authorization_was_wrong(case)
        return
    if case.meta.generation.mode.is_positive:
        case.body = without_fractions(case.body)
        asked = case.body.get("read") if isinstance(case.body, dict) else None
        if isinstance(asked, dict) and asked.get("fields") is not None:
            asked.pop("entries", None)  # no schema says that their fields are among those
    if case.meta.generation.mode.is_positive and case.query:
        case.query.pop("cursor", None)  # no schema tells the cursors of this listing from others
        if case.operation.definition.raw["operationId"].startswith("scan_"):
            without_the_rest(case.query)
        if case.query.keys() & {"fields", "returning"}:
            case.query.pop("entries", None)
    if case.meta.generation.mode.is_positive and case.headers:
        case.headers.pop("Idempotency-Key", None)  # nor keys that stand for something else already
    case.call_and_validate(base_url=base_url, headers=AUTHORIZED)


def only_authorization_was_wrong(case):
    """Whether nothing but a header can have been, one that was replaced by the right one."""
    parts = case.meta.components.items()
    wrong = [where for where, part in parts if part.mode.is_negative]
    return wrong == [ParameterLocation.HEADER] and "Authorization" in case.headers


def without_the_rest(query):
    """Take out what goes with another parameter that is not there: no schema says that either."""
    if "newest" in query and "subject" not in query:
        del query["newest"]
    if query.get("values") != "true":
        for name in ("fields", "tail"):
            query.pop(name, None)
    else:
        query.pop("limit", None)  # fewer states than ids


def without_fractions(value):
    """The value with 1 for 1.0: one number to JSON Schema, two to what is exact to 64 bits."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: without_fractions(item) for name, item in value.items()}
    return [without_fractions(item) for item in value] if isinstance(value, list) else value
