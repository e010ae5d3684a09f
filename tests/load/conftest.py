import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_phase5.load.stub_process import StubProcess, running_stub


@pytest.fixture(scope="session")
def shared_stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubProcess]:
    """One for all tests that neither stop it nor count what it has seen."""
    with running_stub(tmp_path_factory.mktemp("stub") / "stub.jsonl") as process:
        yield process


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[StubProcess]:
    """The calibrated stub with a log of its own."""
    with running_stub(tmp_path / "stub.jsonl") as process:
        yield process


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine that signs itself, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    named = "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    server = "-addext basicConstraints=critical,CA:FALSE"
    files = ["-out", str(cert), "-keyout", str(key)]
    made = [*command.split(), *named.split(), *server.split(), *files]
    subprocess.run(made, check=True, capture_output=True)
    return cert, key
