"""`keys`: the keys of tokens, new, rotated, listed."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

import msgspec

from statehold.cli.exits import OK
from statehold.errors import ConfigError


def keys(given: Namespace) -> int:
    """Do what is said to the file of keys, and print what there is in it, but no key."""
    try:
        from statehold.drivers.token import keyfile
        from statehold.drivers.token.keys import Key
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"keys: needs {error.name}; pip install 'statehold[token]'", field="keys"
        ) from error

    dropped: list[keyfile.Line] = []
    made = time.strftime("%Y-%m-%d", time.gmtime())
    if given.action == "new" and given.file == "-":
        key = Key.new()
        return _print({"id": key.id.hex(), "key": key.text()})
    if given.action == "new":
        keyfile.write(given.file, [keyfile.Line(Key.new(), made)], new=True)
    elif given.action == "rotate":
        before = keyfile.read(given.file)
        lines = keyfile.rotated(before, made, prepare=given.prepare, keep=given.keep)
        keyfile.write(given.file, lines)
        kept = {line.key.id for line in lines}
        dropped = [line for line in before if line.key.id not in kept]
    for at, line in enumerate(keyfile.read(given.file)):
        prepared = line.made.startswith("next ")
        role = "seals" if at == 0 else "seals next" if prepared else "opens"
        _print({"id": line.key.id.hex(), "role": role, "made": line.made.removeprefix("next ")})
    for line in dropped:
        _print({"id": line.key.id.hex(), "role": "dropped", "made": line.made})
    return OK


def _print(result: Any) -> int:
    print(msgspec.json.encode(result).decode())
    return OK
