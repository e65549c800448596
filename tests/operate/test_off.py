"""Who asks for nothing of ``operate`` pays nothing for it: no import, no thread, no observer, no listener."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys, threading
from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.providers import Function
client = ResilientClient([Function(lambda messages: "yes", id="x")])
assert client.chat("?").text == "yes"
client.health(), client.explain()
parts = [name for name in sys.modules if name.startswith("resilient_llm.operate") or name in OPTIONAL]
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
pool = client.pool
print(parts, threads, pool.spending, pool.listeners)
"""
OPTIONAL = ("redis", "rich", "yaml", "hvac", "keyring", "botocore", "kubernetes", "structlog", "smtplib", "sqlite3")


def test_a_plain_client_has_nothing_of_operate() -> None:
    script = SCRIPT.replace("OPTIONAL", repr(OPTIONAL))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    # A function of the user's runs on a worker, so that it can be asked again beside itself should it hang.
    assert (done.stdout, done.stderr) == ("[] ['resilient_llm worker'] None ()\n", "")
