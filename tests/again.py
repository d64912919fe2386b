"""A test that failed beside others is played once more, alone, when all have ended.

Three workers and their servers share the processors, on some days with strangers, and of 13,000
tests one or another then waits a second too long for a server. What is broken fails again alone.
What failed first stays in the summary, whatever comes of it. Not played again are more failures than
a moment explains, and what failed where chance decides (marked `chance`), since once is enough there to
be a finding; unless nothing was found but a call of the library's or of Python's that took too long.
"""

import os
import re
import subprocess
import sys

import pytest

MOST = 8
TIME_LIMIT = re.compile(r"^(E +| *\| )?[\w.]*(Timeout|TimeoutError)\b[:(]", re.MULTILINE)
ASSERTION = re.compile(r"^(E +| *\| )(assert|AssertionError)\b", re.MULTILINE)
"""Lines of a failure that name its errors, those that led to others included."""


class Again:
    """The plugin; `conftest.py` registers it where several workers play."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.failed: dict[str, bool] = {}  # by node id: whether it may be played again
        self.said = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crashed = report.when not in ("setup", "call", "teardown")  # the worker did
            text = report.longreprtext
            late = TIME_LIMIT.search(text) and not ASSERTION.search(text)
            found = "chance" in report.keywords and not late
            may = self.failed.get(report.nodeid, True)
            self.failed[report.nodeid] = may and not found and not crashed

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus != pytest.ExitCode.TESTS_FAILED or not self.failed:
            return
        if not all(self.failed.values()):
            self.said = "not played again: chance decides in one of them, or a worker crashed"
        elif len(self.failed) > MOST:
            self.said = f"not played again: {len(self.failed)} are more than {MOST}"
        elif self.played():
            self.said = f"passed when played alone: {', '.join(self.failed)}"
            session.exitstatus = pytest.ExitCode.OK
        else:
            self.said = "failed again when played alone, see above"

    def played(self) -> bool:
        """Play them in one process of their own; show it, and return whether all passed."""
        alone = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
        }
        ended = subprocess.run(
            [*alone, *self.failed],
            check=False,
            cwd=self.config.invocation_params.dir,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write("\n")
        reporter.section("failed beside others; played again alone")
        reporter.write(ended.stdout)
        return ended.returncode == 0

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.said:
            terminalreporter.section("failed beside others")
            terminalreporter.write_line(self.said)
