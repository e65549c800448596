"""The telemetry tests on the oldest and the newest OpenTelemetry: ``python -m tests.telemetry.versions``.

Each version gets an environment of its own in a temporary directory; packages come from the configured index.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = {
    "oldest": ["opentelemetry-api==1.30.0", "opentelemetry-sdk==1.30.0", "opentelemetry-instrumentation-httpx==0.51b0"],
    "newest": ["opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation-httpx"],
}
OTHERS = ["pytest>=8", "hypothesis", "trio"]


def main(chosen: list[str]) -> int:
    failed = False
    for name in chosen or VERSIONS:
        with tempfile.TemporaryDirectory() as directory:
            venv.create(directory, with_pip=True)
            python = str(Path(directory, "bin", "python"))
            subprocess.run(
                [python, "-m", "pip", "install", "-q", *VERSIONS[name], *OTHERS, "-e", str(ROOT)], check=True
            )
            show = "import importlib.metadata as m; print(m.version('opentelemetry-api'))"
            version = subprocess.run([python, "-c", show], check=True, capture_output=True, text=True).stdout.strip()
            print(f"== {name}: opentelemetry-api {version}", flush=True)
            command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/telemetry"]
            failed |= subprocess.run(command, check=False, cwd=ROOT).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
