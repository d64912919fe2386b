"""The client as its users see it."""

import ast
from pathlib import Path

from statehold.drivers.redis import client
from statehold.drivers.redis.client import Client

FILES = sorted(Path(client.__file__).parent.glob("*.py"))


def test_the_contract_names_every_error_that_the_client_raises():
    """Whichever of its files raises or translates it, a caller finds it where `call` is declared."""
    known = set()
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "statehold.errors":
                known |= {each.name for each in node.names}
    told = Client.call.__doc__.partition("Raises:")[2]
    assert known - {"StateholdError"} == {name for name in known if f"{name}:" in told}
