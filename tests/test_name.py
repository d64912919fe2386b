"""The project's former name is nobody's business, and on the package index somebody else's."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORMER = "hold" + "fast"


def test_the_former_name_is_nowhere_but_in_the_changelog():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    names = [name for name in listed if name and name != "CHANGELOG.md"]
    assert len(names) > 100
    for name in names:
        assert FORMER not in name.lower(), name
        path = ROOT / name
        if path.is_file():
            assert FORMER.encode() not in path.read_bytes().lower(), name
