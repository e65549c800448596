"""The live page in a real browser.  ``python -m tests.operate.test_live_page DIRECTORY`` takes pictures of it."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from resilient_llm import ResilientClient
from resilient_llm.errors import FaultKind, ProviderError
from resilient_llm.operate.endpoints import Endpoints
from resilient_llm.providers import Function

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def answering(messages: object) -> str:
    return "yes"


def limited(messages: object) -> str:
    raise ProviderError("later", kind=FaultKind.RATE_LIMITED, status=429, retry_after=90.0)


def failing(messages: object) -> str:
    raise ProviderError("oh", kind=FaultKind.SERVER_ERROR, status=503)


class Objectives:
    def status(self) -> list[dict[str, object]]:
        return [
            {"route": "default", "objective": "availability", "target": 0.999, "actual": 0.9994, "burn_1h": 0.6},
            {"route": "default", "objective": "latency under 2 s", "target": 0.95, "actual": 0.91, "burn_1h": 1.8},
        ]


def in_trouble() -> ResilientClient:
    """A client with a provider in every state."""
    client = ResilientClient(
        [
            Function(limited, id="openai/gpt-5.2"),
            Function(failing, id="anthropic/claude-sonnet-5"),
            Function(answering, id="gemini/gemini-3.1-pro", max_concurrency=20),
            Function(answering, id="bedrock/eu.anthropic.claude-sonnet-5-20260101-v1"),
            Function(answering, id="ollama/llama"),
        ],
        name="shop",
    )
    for _ in range(12):
        client.chat("?")
    client.isolate("ollama/llama")
    return client


class Quiet(WSGIRequestHandler):
    def log_message(self, *said: object) -> None:  # type: ignore[override]
        pass


@contextmanager
def shown(client: ResilientClient) -> Iterator[str]:
    """The address of its page, served from a thread."""
    endpoints = Endpoints(client, objectives=Objectives())
    with make_server("127.0.0.1", 0, endpoints.wsgi, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextmanager
def browser(*flags: str) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", *flags):
            options.add_argument(flag)  # type: ignore[no-untyped-call]
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            yield driver
        finally:
            driver.quit()


def requested(driver: Any) -> list[str]:
    """Every address asked for over a network; its own new tab, at ``chrome:``, and what is in it are none."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    addresses = [str(params["request"]["url"]) for params in sent]
    return [address for address in addresses if not address.startswith(("data:", "chrome:", "chrome-untrusted:"))]


def until(true: Any, seconds: float = 15.0) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")
@pytest.mark.skipif(find_spec("selenium") is None, reason="needs selenium")
def test_the_page_is_whole_by_itself_and_keeps_itself_up_to_date() -> None:
    with in_trouble() as client, shown(client) as url, browser("--window-size=390,844") as driver:
        driver.get(url)
        text = driver.find_element("tag name", "main").text
        assert re.search("[23] of 5 providers can be asked", text), "one fails every call"
        for told in (
            "isolated by hand",
            "asked us to wait",
            "asked only while nobody better is there",
            "latency under 2 s",
        ):
            assert told in text
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), "no sideways scroll"
        client.restore("ollama/llama")
        until(lambda: "4 of 5 providers can be asked" in driver.find_element("tag name", "main").text)
        assert {address.partition("?")[0] for address in requested(driver)} == {url}
        assert not driver.get_log("browser"), "no error, no warning, nothing the policy had to stop"


def pictures(directory: Path) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(in_trouble())
        url = stack.enter_context(shown(client))
        driver = stack.enter_context(browser())
        driver.get(url)
        for scheme in ("light", "dark"):
            driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            )
            for name, width, height in (("wide", 1280, 900), ("phone", 390, 1900)):
                driver.execute_cdp_cmd(
                    "Emulation.setDeviceMetricsOverride",
                    {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"},
                )
                driver.save_screenshot(str(directory / f"{name}-{scheme}.png"))


if __name__ == "__main__":
    pictures(Path(sys.argv[1]))
