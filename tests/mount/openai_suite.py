"""Runs the test suite of OpenAI's SDK, bare and mounted, and prints the tests that differ.

``python -m tests.mount.openai_suite [--version 3.57.0] [--sources DIR] [TEST...]`` downloads the SDK's sources with pip
and runs its tests in a virtual environment, both in a temporary folder; neither is part of this project.  It needs a
package index, so it is run when asked for and never by the test suite.  Ends with the number of tests that pass bare,
fail mounted and are not in :data:`EXPECTED`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

from tests.mount.versions import environment

TOOLS = ("pytest", "pytest-asyncio", "pytest-xdist", "inline-snapshot", "rich", "trio", "httpx2")
HERE = Path(__file__).parent
TESTS = (
    *("tests/test_client.py", "tests/test_response.py", "tests/test_streaming.py", "tests/test_sse_framing.py"),
    *("tests/test_legacy_response.py", "tests/test_status_error_messages.py", "tests/test_module_client.py"),
    *("tests/lib/chat", "tests/lib/responses", "tests/lib/streaming", "tests/lib/test_responses_tool_runner.py"),
)
_FINAL = "a failure is final when the SDK sees it (x-should-retry: false): the client has retried already"
_WRITTEN_ANEW = "a stream is written anew, so its chunks are cut elsewhere and begin with the role and an empty content"
EXPECTED = {
    "test_proxy_environment_variables": "the transport is not the network; proxies belong to the mounted client",
    "test_retr": _FINAL,
    "retry_count_header": _FINAL,
    "refresh": _FINAL,
    "401_retry": _FINAL,
    "tool_call_deltas": _WRITTEN_ANEW,
    "test_stream_content_filter": _WRITTEN_ANEW,
    "test_stream_moderation": "fields of single chunks that the neutral model has no word for are lost in streams",
}
"""Part of a test's name -> why it must differ."""
_OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED)\s+(?:\[\d+\]\s+)?(\S+::\S+|\S+)")


def main() -> int:
    """Run both, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", nargs="*", metavar="TEST", default=TESTS)
    parser.add_argument("--version", default=version("openai"), help="of the SDK; by default the installed one's")
    parser.add_argument("--sources", type=Path, default=Path(tempfile.gettempdir()) / "resilient-llm-sdk-sources")
    given = parser.parse_args()
    suite = sources(given.version, given.sources)
    python = environment(given.sources / f"venv-{given.version}", *TOOLS, f"openai[aiohttp,realtime]=={given.version}")
    bare, mounted = (run(python, suite, given.tests, plugin) for plugin in (None, "mounted_openai"))
    for name, found in (("bare", bare), ("mounted", mounted)):
        passed = sum(outcome == "PASSED" for outcome in found.values())
        failed = sum(outcome in ("FAILED", "ERROR") for outcome in found.values())
        print(f"{name}: {passed} passed, {failed} failed")
    differ = [test for test, outcome in bare.items() if outcome == "PASSED" and mounted.get(test) != "PASSED"]
    unexpected = 0
    for test in differ:
        why = next((reason for part, reason in EXPECTED.items() if part in test), None)
        unexpected += why is None
        print(f"{'UNEXPECTED' if why is None else 'expected'}: {test}{'' if why is None else ': ' + why}")
    return unexpected


def sources(wanted: str, home: Path) -> Path:
    """The unpacked sources of the SDK."""
    suite = home / f"openai-{wanted}"
    if not suite.exists():
        home.mkdir(parents=True, exist_ok=True)
        command = ["download", "-q", "--no-binary", "openai", "--no-deps", f"openai=={wanted}", "-d", str(home)]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        with tarfile.open(home / f"openai-{wanted}.tar.gz") as archive:
            archive.extractall(home, filter="data")
    return suite


def run(python: Path, suite: Path, tests: tuple[str, ...], plugin: str | None) -> dict[str, str]:
    """Every test's outcome."""
    there = [test for test in tests if (suite / test).exists()]
    options = ("-q", "-n", "0", "-rA", "--tb=line", "-p", "no:cacheprovider", "--continue-on-collection-errors")
    command = [python, "-m", "pytest", *options, *there]
    # The suite's own clients shall be those that the SDK makes, which are the ones that get mounted.
    given = {"PYTHONPATH": os.pathsep.join([str(suite), str(HERE)]), "OPENAI_TEST_HTTP_CLIENT": "sdk"}
    if plugin is not None:
        command += ["-p", plugin]
    done = subprocess.run(command, cwd=suite, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("requests over"):
            print(line)
    found = [_OUTCOME.match(line) for line in done.stdout.splitlines()]
    outcomes = {match.group(2): match.group(1) for match in found if match is not None}
    if not outcomes:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
