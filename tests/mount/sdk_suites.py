"""Runs the test suites of vendors' SDKs, bare and mounted, and prints the tests that differ.

``python -m tests.mount.sdk_suites [openai|anthropic|mistralai...] [--sources DIR]`` downloads the SDKs'
sources with pip and runs their tests in virtual environments, all in a temporary folder; none of it is part of this
project.  It needs a package index, so it is run when asked for and never by the test suite.  Ends with the number of
tests that pass bare, fail mounted and have no reason in :class:`Suite`: one that names the test *and* how it fails.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.mount.versions import environment

HERE = Path(__file__).parent
_TOOLS = ("pytest", "pytest-asyncio", "pytest-xdist", "inline-snapshot", "rich", "trio", "httpx2", "respx")

_FINAL = "a failure is final when the SDK sees it (x-should-retry: false): the client has retried already"
_EMPTY = "the suite's made-up answer says nothing at all, and such an answer is not accepted (allow_empty=False)"
_LAST = (
    "the last event of the suite's stream lacks its blank line, and is passed on with one, which the bare SDK misses"
)
_BROKEN = "a stream without its end is a break, and one that breaks before content a failed attempt"
_NO_CALL = "the suite's address is none of a model call, and what is no call goes to the vendor's own paths, unchanged"
_NO_ANSWER = "the suite's made-up answer is none of this wire"
_OWN_HEADERS = "the SDK's own headers are sent to nobody, and the provider's headers are not the mounted client's"
_STATUS = "the suite answers with another status than the providers agreed on; the message has the trail"
_NAMED = "the provider's model is named in every request, also where the caller named none"
_GATED = "a provider that asked to wait is not asked again before the wait is over"
_AFTER = "what follows the end of an answer is not passed on"
_COUNTS = "the chunk with token counts, which this library always asks for, is left out where the caller did not ask"
_SPANS = "the client has spans of its own between the SDK's and that of the HTTP request, which is the mounted client's"
_NOBODY = "a connection that fails is a failed attempt, and when nobody can be asked the SDK sees a 503, no exception"
_OWN_CLIENT = "the transport is not the network; proxies and connections belong to the mounted client"


@dataclass(frozen=True)
class Why:
    """Why a test must differ: a pattern of its name, one of what it fails with, and the reason."""

    test: str
    fails: str
    reason: str


@dataclass(frozen=True)
class Suite:
    """One SDK: what it is installed as, what its tests need, and which of them ask for answers."""

    name: str
    requirement: str
    tools: tuple[str, ...]
    tests: tuple[str, ...]
    expected: tuple[Why, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


SUITES = (
    Suite(
        "openai",
        "openai[aiohttp,realtime]",
        _TOOLS,
        (
            *("tests/test_client.py", "tests/test_response.py", "tests/test_streaming.py", "tests/test_sse_framing.py"),
            *("tests/test_legacy_response.py", "tests/test_status_error_messages.py", "tests/test_module_client.py"),
            *(
                "tests/lib/chat",
                "tests/lib/responses",
                "tests/lib/streaming",
                "tests/lib/test_responses_tool_runner.py",
            ),
        ),
        (
            Why("retr|401|refresh", "Error code: 50[03]|'mounted_sdk' == 'httpx2'", _FINAL),
            Why("test_proxy_environment_variables", "assert 0 == 1", _OWN_CLIENT),
            Why("test_stream_moderation", r"assert \[", _COUNTS),
            Why("new_choice", "a choice that says nothing", _BROKEN),
            Why("nullable_content|forward_", "the answer is empty", _EMPTY),
            Why("send_a_top_level_schema", "del': 'model'", _NAMED),
            Why("background_options", "ended before the response was completed", _BROKEN),
        ),
        (("OPENAI_TEST_HTTP_CLIENT", "sdk"),),
    ),
    Suite(
        "anthropic",
        "anthropic[aiohttp,mcp]",
        (
            *_TOOLS,
            *("time-machine", "dirty-equals", "hypothesis", "http-snapshot[httpx]==0.1.9", "packaging"),
            *("opentelemetry-sdk", "griffe"),
        ),
        (
            *("tests/test_response.py", "tests/test_streaming.py", "tests/test_middleware.py", "tests/lib/streaming"),
            *("tests/lib/_parse", "tests/lib/tools/test_runners.py", "tests/lib/tools/test_runner_eager_tools.py"),
            *("tests/lib/test_refusal_fallback.py", "tests/lib/test_refusal_fallback_streaming.py"),
            *("tests/lib/test_output_format_helpers.py", "tests/lib/test_stainless_helpers.py", "tests/test_client.py"),
        ),
        (
            Why("", "ended without message_stop|broke after content|connection 200 after", _BROKEN),
            Why("lib/streaming", r"assert \['message_sta", _LAST),
            Why("proxy_|retrying_status_errors_doesnt_leak", r"assert (0 == 1|\(?False|\(1, 9, True\))", _OWN_CLIENT),
            Why("", "the answer is empty", _EMPTY),
            Why("", "invalid_response 200", _NO_ANSWER),
            Why("", "HTTPNotImplementedError|APIConnectionError: Connection error", _NO_CALL),
            Why("", r"(server_error|timeout|connection)( 5\d\d)? after", _FINAL),
            Why("", "KeyError: '([xX]-|anthropic-)|== 'my-req-id'", _OWN_HEADERS),
            Why("", "assert 503 == 429", _STATUS),
            Why("RateLimitedFastHop", "assert|DID NOT RAISE|all 2 attempts failed", _GATED),
            Why("test_stainless_helpers|prepared_body", r"assert \[\] ==|None == '1'", _OWN_HEADERS),
            Why("unknown_events", "future_even", _AFTER),
            Why("system_message_without_content", "DID NOT WARN", _NO_ANSWER),
        ),
    ),
    Suite(
        "mistralai",
        "mistralai",
        (*_TOOLS, "opentelemetry-sdk", "opentelemetry-instrumentation-httpx", "griffe", "mcp", "authlib"),
        (
            *("src/mistralai/extra/tests/test_otel_tracing.py", "src/mistralai/extra/tests/test_stream_error_hook.py"),
            *("src/mistralai/extra/tests/test_streaming.py", "src/mistralai/extra/tests/test_traceparent_hook.py"),
        ),
        (
            Why("test_app_otel_does_not_enable_mistral_span", "Lists differ: .*ReadableSpan", _SPANS),
            Why("test_concurrent_async_httpx_auto_instrumented", "4 != 2", _SPANS),
            Why("test_httpx_auto_instrumented_span_is_child", "StopIteration", _SPANS),
            Why("test_httpx_send_error_ends_genai_span", "Status 503.*connection", _NOBODY),
        ),
    ),
)
_OUTCOME = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED)\s+(\S+::.+?)(?: - (.*))?$")


def main() -> int:
    """Run both, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [suite.name for suite in SUITES]
    parser.add_argument("names", nargs="*", metavar="SDK", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--sources", type=Path, default=Path(tempfile.gettempdir()) / "resilient-llm-sdk-sources")
    given = parser.parse_args()
    return sum(compared(suite, given.sources) for suite in SUITES if suite.name in (given.names or names))


def compared(suite: Suite, home: Path) -> int:
    """Print how its tests differ; returns how many differ without a reason."""
    wanted = version(suite.name)
    there = sources(suite.name, wanted, home)
    python = environment(home / f"venv-{suite.name}-{wanted}", *suite.tools, f"{suite.requirement}=={wanted}")
    bare, mounted = (run(python, there, suite, plugin) for plugin in (None, "mounted_sdk"))
    for name, found in (("bare", bare), ("mounted", mounted)):
        passed = sum(outcome == "PASSED" for outcome, _ in found.values())
        failed = sum(outcome in ("FAILED", "ERROR") for outcome, _ in found.values())
        print(f"{suite.name} {wanted}, {name}: {passed} passed, {failed} failed")
    unexpected = 0
    for test in [test for test, (outcome, _) in bare.items() if outcome == "PASSED"]:
        outcome, said = mounted.get(test, ("NOT RUN", ""))
        if outcome != "PASSED":
            why = next((one.reason for one in suite.expected if explains(one, test, said)), None)
            unexpected += why is None
            verdict = "UNEXPECTED" if why is None else f"expected, {why}"
            print(f"{test}\n    {outcome} {said[:200]}\n    {verdict}")
    return unexpected


def explains(why: Why, test: str, said: str) -> bool:
    """Whether this is the reason."""
    return re.search(why.test, test) is not None and re.search(why.fails, said) is not None


def sources(name: str, wanted: str, home: Path) -> Path:
    """The unpacked sources of an SDK."""
    there = home / f"{name}-{wanted}"
    if not there.exists():
        home.mkdir(parents=True, exist_ok=True)
        command = ["download", "-q", "--no-binary", name, "--no-deps", f"{name}=={wanted}", "-d", str(home)]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        with tarfile.open(home / f"{name}-{wanted}.tar.gz") as archive:
            archive.extractall(home, filter="data")
    return there


def run(python: Path, there: Path, suite: Suite, plugin: str | None) -> dict[str, tuple[str, str]]:
    """Every test's outcome, and what it failed with."""
    tests = [test for test in suite.tests if (there / test).exists()]
    options = ("-q", "-n", "0", "-rA", "--tb=line", "-p", "no:cacheprovider", "--continue-on-collection-errors")
    command = [python, "-m", "pytest", *options, *tests]
    # The suite's own clients shall be those that the SDK makes, which are the ones that get mounted.
    given = {"PYTHONPATH": os.pathsep.join([str(there), str(HERE)]), "MOUNTED_SDK": suite.name, "COLUMNS": "400"}
    if plugin is not None:
        command += ["-p", plugin]
    done = subprocess.run(
        command, cwd=there, env={**os.environ, **given, **dict(suite.env)}, capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith("requests over"):
            print(line)
    found = [_OUTCOME.match(line) for line in done.stdout.splitlines()]
    outcomes = {match.group(2): (match.group(1), match.group(3) or "") for match in found if match is not None}
    if not outcomes:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
