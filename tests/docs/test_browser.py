"""The site in a real browser: what readers look for is found, nothing is broken, nothing is asked of anybody else."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urldefrag, urlsplit

import pytest

from resilient_llm.testing import Cut, LoopbackLLM, Reply, Status
from tests.docs.pages import DOCS, blocks
from tests.docs.vendors import vendors

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="needs Debian's chromium and chromium-driver"),
    pytest.mark.skipif(find_spec("selenium") is None, reason="needs selenium (the docs extra)"),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--window-size=1300,900"),
)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class chose the name
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def wait_for(browser: Any, script: str, *arguments: str) -> Any:
    """What a script returns as soon as that is something."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20, 0.05).until(lambda one: one.execute_script(script, *arguments))


def requested(browser: Any, address: str) -> list[str]:
    """Every address that pages of the site asked for since the last time."""
    told = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    sent = [one["params"] for one in told if one["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent if one["documentURL"].startswith(address)]


LINKS_AND_IDS = """
if (document.readyState !== "complete" || location.href !== arguments[0]) return null
return [
  [...document.querySelectorAll("a[href]")].map(one => one.href),
  [...document.querySelectorAll("[id]")].map(one => one.id),
]
"""
"""Of the page at this address, once it is there as a whole."""
FOUND = """
const found = (root, into) => {
  for (const one of root.querySelectorAll("*")) {
    if (one.shadowRoot) found(one.shadowRoot, into)
    if (one.tagName === "A" && root !== document) into.push(new URL(one.href).pathname)
  }
  return into
}
return found(document, [])
"""
"""Search shows what it finds inside a shadow root."""
FOCUSED = """
const inside = document.activeElement.shadowRoot?.activeElement
return inside?.tagName === "INPUT" ? inside : null
"""


def crawl(browser: Any, address: str, most: int) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """Pages of the site, at most so many, from link to link: the links and the ids of each."""
    waiting, links, ids = [f"{address}/"], dict[str, list[str]](), dict[str, set[str]]()
    while waiting and len(links) < most:
        url = waiting.pop(0)
        if url in links:
            continue
        browser.get(url)
        every, named = wait_for(browser, LINKS_AND_IDS, url)
        links[url], ids[url] = [link for link in every if link.startswith(address)], set(named)
        waiting += [page for page in (urldefrag(link)[0] for link in links[url]) if page.endswith("/")]
    return links, ids


def looks_well(browser: Any, address: str, site: Path, most: int) -> int:
    """Whether so many pages are without fault; returns how many there were."""
    links, ids = crawl(browser, address, most)
    for url, targets in links.items():
        for page, anchor in map(urldefrag, targets):
            assert (site / urlsplit(page).path.lstrip("/")).exists(), f"{url} links to {page}"
            assert not anchor or page not in ids or anchor in ids[page], f"{url} links to {page}#{anchor}"
    assert not [url for url in requested(browser, address) if not url.startswith((address, "data:", "blob:"))]
    assert not [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    return len(links)


def test_pages_are_whole_and_ask_nobody_else(browser: Any, address: str, site: Path) -> None:
    assert looks_well(browser, address, site, 6) == 6


@pytest.mark.slow
def test_every_page_is_whole_and_asks_nobody_else(browser: Any, address: str, site: Path) -> None:
    pages = sum(1 for page in site.rglob("index.html"))
    assert looks_well(browser, address, site, 1000) == pages


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("timeout", "/mechanisms/deadline/"),
        ("rate limit", "/mechanisms/gate/"),
        ("pydantic", "/how-to/typed-answers/"),
        ("429", "/mechanisms/gate/"),
    ],
)
def test_search_finds_what_readers_look_for(browser: Any, address: str, words: str, page: str) -> None:
    browser.get(f"{address}/support/")
    browser.find_element("css selector", ".md-search__button").click()
    typed = wait_for(browser, FOCUSED)
    typed.send_keys(words)
    assert wait_for(browser, f"const f = (() => {{{FOUND}}})(); return f.includes({page!r}) ? f : null")


def test_a_phone_shows_everything_in_its_width(browser: Any, address: str) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        for page in ("/", "/mechanisms/breaker/", "/reference/calls/"):
            browser.get(address + page)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, page
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_and_light_can_be_chosen(browser: Any, address: str) -> None:
    seen = set()
    for scheme in ("light", "dark"):
        feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        browser.get(f"{address}/support/")
        seen.add(wait_for(browser, "return getComputedStyle(document.body).backgroundColor"))
    assert len(seen) == 2


@pytest.fixture
def chat_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, LoopbackLLM]]:
    """The application of the tutorial, as it stands there, in a real server."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    with vendors(monkeypatch) as model:
        page = DOCS / "tutorials" / "chat-app.md"
        code = "\n".join(block.code for block in blocks(page) if block.language == "python" and not block.hidden)
        module = ModuleType("chat_app")
        monkeypatch.setitem(sys.modules, "chat_app", module)
        exec(compile(code, str(page), "exec"), module.__dict__)
        server = uvicorn.Server(uvicorn.Config(module.app, log_level="error", ws="none"))
        with socket.create_server(("127.0.0.1", 0)) as listening:  # so that nobody comes too soon
            thread = threading.Thread(target=server.run, args=([listening],))
            thread.start()
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/", model
            server.should_exit = True
            thread.join()


def test_the_chat_of_the_tutorial_talks(browser: Any, chat_app: tuple[str, LoopbackLLM]) -> None:
    url, model = chat_app
    browser.get(url)
    browser.get_log("browser")
    field = browser.find_element("css selector", "input")
    field.send_keys("Why is the sky blue?\n")
    assert wait_for(browser, "return talk.children[1]?.textContent.includes('short waves') ? talk.innerText : null")
    model.script(Reply("one two three four", fault=Cut(2), interval=0.02))
    field.send_keys("And at night?\n")
    assert wait_for(browser, "return talk.children[3]?.textContent.includes('broke off') ? talk.innerText : null")
    assert browser.execute_script("return talk.children[3].textContent").startswith("one two")
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_page_of_the_fastapi_example_talks(browser: Any) -> None:
    from tests.operate.test_web_examples import ANSWER, example

    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    said = "return talk.lastChild?.textContent === {!r} ? talk.innerText : null"
    with example("uvicorn", "--fd={fd}", "--log-level=warning", "fastapi_chat:app") as (http, model):
        browser.get(f"{http.base_url}/")
        field = browser.find_element("css selector", "input")
        field.send_keys("Why is the sky blue?\n")
        assert ANSWER in wait_for(browser, said.format("answered by server-1"))
        model.script(Reply("one two three four", fault=Cut(2)))
        field.send_keys("And at night?\n")
        assert "one two" in wait_for(browser, said.format("The answer broke off."))
        model.default = Status(429, retry_after=30)
        field.send_keys("And now?\n")
        assert wait_for(browser, "return /try again in 3\\d seconds/.test(talk.lastChild?.textContent)")
