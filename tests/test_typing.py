"""The types say the same to mypy and to pyright, inside the package and for its users."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "checker", [["mypy"], ["pyright", "--pythonpath", sys.executable]], ids=lambda it: it[0]
)
def test_src_and_the_typed_api(checker):
    assert (ROOT / "tests/typing/api.py").is_file()
    done = subprocess.run(
        [sys.executable, "-m", *checker],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
