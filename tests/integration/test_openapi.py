"""Schemathesis reads the engine's own document and does its worst to a real one."""

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

#: Far above what a start takes; a machine under load must not fail the tests.
PATIENCE = 120.0
EXAMPLES = 1_000 if os.environ.get("PHASE5_FULL") else 40
#: One secret for both guards: schemathesis sends one header.
SECRET = "for this test only"  # noqa: S105 - of an engine that ends with the test
HERE = Path(__file__).parent


@contextmanager
def guarded(folder: Path) -> Iterator[str]:
    """An engine that wants keys, for clients and for administration."""
    command = [sys.executable, "-P", "-m", "pytest_phase5.cli", "serve", "--model", "tiny"]
    keys = {"PHASE5_API_KEYS": SECRET, "PHASE5_ADMIN_TOKEN": SECRET}
    with (
        (folder / "stderr").open("w") as stderr,
        subprocess.Popen(
            [*command, "--port", "0", "--flags", "off"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, **keys},
        ) as process,
    ):
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], PATIENCE)[0], "the engine said nothing"
            yield process.stdout.readline().removeprefix("ready ").strip()
        finally:
            process.terminate()


def attack(url: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Every check of schemathesis, on every route but the one that ends the engine's service."""
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{url}/openapi.json", "--no-color"),
            *("--header", f"Authorization: Bearer {SECRET}"),
            *("--max-examples", str(EXAMPLES), "--exclude-path", "/admin/drain"),
            # A null character is refused, which a schema cannot say.
            *("--generation-allow-x00", "false", "--request-timeout", str(PATIENCE)),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "openapi_hooks.py")},
        capture_output=True,
        text=True,
        check=False,
    )


def requests(url: str, outcome: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE).text
    pattern = rf'^phase5_requests_total{{.*outcome="{outcome}".*}} (\S+)$'
    counts = re.findall(pattern, text, re.MULTILINE)
    return sum(map(float, counts))


def test_no_request_breaks_the_engine_or_its_document(tmp_path: Path) -> None:
    with guarded(tmp_path) as url:
        report = attack(url, tmp_path)
        assert report.returncode == 0, report.stdout[-4_000:] + report.stderr[-4_000:]
        assert "11 selected" in report.stdout
        assert requests(url, "ok") > EXAMPLES
        assert requests(url, "rejected") > EXAMPLES
        assert requests(url, "failed") == requests(url, "cut") == 0
