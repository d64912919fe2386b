"""The scripts, put together from the `.lua` files beside this one."""

from __future__ import annotations

import re
from importlib.resources import files

from statehold.drivers.redis.client import Script

_constant = re.compile(r"^local ([A-Z]+) = (.+?)(?: --.*)?\n", re.MULTILINE)


def _in_place(text: str) -> str:
    """The text with the values of its constants where their names stood."""
    values = dict(_constant.findall(text))
    names = re.compile(rf"\b(?:{'|'.join(values)})\b(?!')")
    code = _constant.sub("", text)
    return names.sub(lambda name: values[name[0]], code) if values else text


def _script(name: str, *parts: str, flags: str = "") -> Script:
    """The parts in order. The shebang makes Redis look before the first write whether it may be."""
    folder = files("statehold.drivers.redis.lua")
    texts = [(folder / f"{part}.lua").read_text("utf-8") for part in (*parts, name)]
    text = f"#!lua{flags}\n" + _in_place("\n".join(texts))
    return Script.of(name, text, writes="no-writes" not in flags)


def _function(name: str) -> str:
    """A script as a function that can be told only to try, at a time that is given."""
    text = (files("statehold.drivers.redis.lua") / f"{name}.lua").read_text("utf-8")
    text = text.replace("redis.call('TIME')", "clock").replace(
        "-- (see together.lua)\n", "if tried then return {'stands'} end\n"
    )
    return f"local function {name}(KEYS, ARGV, tried)\n{text}\nend\n"


def _together() -> Script:
    """The script of several commits, made of those of one."""
    folder = files("statehold.drivers.redis.lua")
    shared = [
        (folder / f"{part}.lua").read_text("utf-8") for part in ("life", "places", "sums", "cells")
    ]
    parts = (*shared, "local clock = redis.call('TIME')\n", _function("commit"), _function("erase"))
    text = "\n".join((*parts, (folder / "together.lua").read_text("utf-8")))
    return Script.of("together", "#!lua\n" + _in_place(text), writes=True)


COMMIT = _script("commit", "life", "places", "sums", "cells")
ERASE = _script("erase", "life", flags=" flags=allow-oom")
CLAIM = _script("claim", "life", "cells")
READ = _script("read", "cells", flags=" flags=no-writes")
WHOLE = _script("whole", "cells", flags=" flags=no-writes")
INSTALL = _script("install", "life")
RENEW = _script("renew", "life", "cells")
SCAN = _script("scan", flags=" flags=no-writes")
SWEEP = _script("sweep", "life", flags=" flags=allow-oom")
RIGHTS = _script("rights", flags=" flags=no-writes")
TOGETHER = _together()
ALL = (COMMIT, ERASE, TOGETHER, CLAIM, READ, WHOLE, INSTALL, RENEW, SCAN, SWEEP, RIGHTS)
