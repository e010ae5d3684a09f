"""A real Prometheus: with a history that is put in, or one that it scrapes."""

import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from probe import HOST
from served import PATIENCE, until

from gates.exposition import Scrape

_UNPACKED = Path(__file__).resolve().parents[2] / ".tools/prometheus/usr/bin"


def program(name: str) -> str:
    """`prometheus`, `promtool` or `amtool`; `./dev test` unpacks them."""
    found = shutil.which(name) or shutil.which(name, path=str(_UNPACKED))
    assert found, (
        f"{name} is missing: ./dev test unpacks it, as would"
        " apt-get install prometheus prometheus-alertmanager"
    )
    return found


def put_in(data: Path, scrapes: Iterable[Scrape]) -> None:
    """Fill a database with what was scraped, at the times at which it was."""
    points = sorted(
        (sample.name, _labels(sample.labels, scrape.target), scrape.at, sample.value)
        for scrape in scrapes
        for sample in scrape.samples
    )
    lines = [f"{name}{{{labels}}} {value} {at:.3f}\n" for name, labels, at, value in points]
    text = data.with_suffix(".om")
    text.write_text("".join([*lines, "# EOF\n"]))
    command = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    subprocess.run([*command, str(text), str(data)], check=True, capture_output=True)


def _labels(own: Mapping[str, str], target: str) -> str:
    every = {**own, "instance": target, "job": "engines"}
    return ",".join(f'{name}="{value}"' for name, value in every.items())


@contextmanager
def prometheus(
    data: Path,
    targets: Sequence[str] = (),
    *,
    options: Sequence[str] = (),
    base: str = "http",
    config: Path | None = None,
    **client: Any,
) -> Iterator[str]:
    """A running server, which scrapes the targets every second. Its address.

    `config` is one that is there already; `client` is how to ask it whether it is ready.
    """
    config = config or _written(data.with_name(f"{data.name}.yml"), targets)
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        address = f"{HOST}:{sock.getsockname()[1]}"
    command = [
        *(program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={data}"),
        *(f"--web.listen-address={address}", "--storage.tsdb.retention.time=10y"),
        *("--log.level=error", *options),
    ]
    with data.with_suffix(".log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(**client) as asking:
            until(lambda: _ready(asking, f"{base}://{address}/-/ready"))
        yield f"{base}://{address}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _written(config: Path, targets: Sequence[str]) -> Path:
    jobs = f"""
scrape_configs:
  - job_name: engines
    static_configs: [{{targets: {list(targets)}}}]
"""
    interval = "global: {scrape_interval: 1s, scrape_timeout: 1s}"
    config.write_text(interval + (jobs if targets else "\n"))
    return config


def _ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).is_success
    except httpx.HTTPError:
        return False
