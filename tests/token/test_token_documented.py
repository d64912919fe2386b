"""Every setting of tokens is in docs/token.md, with its default, and none that is not there."""

import re
from pathlib import Path

from statehold.drivers.token import SETTINGS

PAGE = (Path(__file__).parents[2] / "docs" / "token.md").read_text("utf-8")
DEFAULTS = {3500: "3500", 1 << 20: "1 MiB", 60.0: "60 s", 16: "16", "sealed": "sealed"}


def test_every_setting():
    section = PAGE.split("## Settings")[1].split("## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
    assert rows.pop("keys") == "required"
    assert list(rows) == list(SETTINGS.known)
    for name, told in rows.items():
        default = SETTINGS.default(name)
        assert told == (DEFAULTS[default] if default else told), name
