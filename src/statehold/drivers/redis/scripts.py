"""The scripts, put together from the .lua files beside this one."""

from __future__ import annotations

import re
from importlib.resources import files

from statehold.drivers.redis.servers import Script

_constant = re.compile(r"^local ([A-Z]+) = (.+?)(?: --.*)?\n", re.MULTILINE)


def _in_place(text: str) -> str:
    """The text with the values of its constants where their names stood."""
    values = dict(_constant.findall(text))
    names = re.compile(rf"\b(?:{'|'.join(values)})\b(?!')")
    code = _constant.sub("", text)
    return names.sub(lambda name: values[name[0]], code) if values else text


def _script(name: str, *parts: str, flags: str = "") -> Script:
    """The parts in order. The shebang makes Redis look before the first write whether it may be."""
    folder = files("statehold.drivers.redis")
    texts = [(folder / f"{part}.lua").read_text("utf-8") for part in (*parts, name)]
    text = f"#!lua{flags}\n" + _in_place("\n".join(texts))
    return Script.of(name, text, writes="no-writes" not in flags)


COMMIT = _script("commit", "life", "sums", "cells")
ERASE = _script("erase", "life", flags=" flags=allow-oom")
CLAIM = _script("claim", "life", "cells")
READ = _script("read", "cells", flags=" flags=no-writes")
RENEW = _script("renew", "life", "cells")
SCAN = _script("scan", flags=" flags=no-writes")
RIGHTS = _script("rights", flags=" flags=no-writes")
ALL = (COMMIT, ERASE, CLAIM, READ, RENEW, SCAN, RIGHTS)
