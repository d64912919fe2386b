"""The types say the same to mypy and to pyright where a user meets them.

`make lint` checks the whole package; here it is the file whose lines say what must be an error.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
API = "tests/typing/api.py"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "checker", [["mypy"], ["pyright", "--pythonpath", sys.executable]], ids=lambda it: it[0]
)
def test_the_typed_api(checker):
    assert (ROOT / API).is_file()
    done = subprocess.run(
        [sys.executable, "-m", *checker, API],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
