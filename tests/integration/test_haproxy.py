"""`config/haproxy` on the real proxy: who is offered HTTP/2, and what the follower makes of it."""

import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from http2 import certificate, rollout, tool
from probe import HOST, Probe, body, eventually
from served import PATIENCE, serving

CONFIG = Path(__file__).resolve().parents[2] / "config" / "haproxy"
#: Clients: the whole of 127.0.0.0/8 is this machine.
SOURCES = [f"127.0.0.{n}" for n in range(2, 62)]


@dataclass
class Proxy:
    """A running proxy in front of an engine."""

    probe: Probe
    port: int
    ca: Path

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def agreed(self, source: str = HOST) -> str | None:
        """What a client that has both protocols gets."""
        address, both = (HOST, self.port), self.context()
        both.set_alpn_protocols(["h2", "http/1.1"])
        with (
            closing(socket.create_connection(address, PATIENCE, (source, 0))) as plain,
            both.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            return sock.selected_alpn_protocol()

    def offered(self) -> set[str]:
        """The sources that get HTTP/2."""
        return {source for source in SOURCES if self.agreed(source) == "h2"}

    def reload(self, generation: int, percentage: float) -> None:
        (self.probe.log.parent / "runtime.yaml").write_text(rollout(generation, percentage))
        httpx.post(f"{self.probe.url}/admin/reload", timeout=PATIENCE).raise_for_status()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    cert, key = certificate(folder)
    (folder / "both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    shutil.copy(CONFIG / "http2.map", folder)
    port = free_port()
    with serving(folder, None, config=rollout(1, 0)) as served:
        probe = Probe(served, folder / "stderr")
        environment = {
            "PHASE5_PROXY_BIND": f"127.0.0.1:{port}",
            "PHASE5_PROXY_CERT": str(folder / "both.pem"),
            "PHASE5_PROXY_DIR": str(folder),
            "PHASE5_PROXY_RUN": str(folder),
            "PHASE5_ENGINE": f"{HOST}:{probe.port()}",
        }
        commands = (
            [tool("haproxy"), "-db", "-f", str(CONFIG / "haproxy.cfg")],
            [
                *(sys.executable, "-P", "-m", "engine.haproxy", probe.url),
                *(str(folder / "admin.sock"), str(folder / "http2.map")),
            ],
        )
        running = []
        try:
            for command in commands:
                with (folder / f"{len(running)}.log").open("w") as log:
                    running.append(
                        subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                    )
            made = Proxy(probe, port, cert)
            eventually((folder / "admin.sock").exists, "the proxy listens")
            yield made
        finally:
            for process in running:
                process.terminate()
                process.wait(PATIENCE)


def test_nobody_is_offered_http2_at_0_percent(proxy: Proxy) -> None:
    assert proxy.offered() == set()
    assert proxy.agreed() == "http/1.1"


def test_a_share_of_the_sources_is_offered_http2_and_stays(proxy: Proxy) -> None:
    proxy.reload(2, 30)
    eventually(lambda: bool(proxy.offered()), "the proxy follows")
    some = proxy.offered()
    assert len(SOURCES) * 0.1 < len(some) < len(SOURCES) * 0.5
    assert proxy.offered() == some
    proxy.reload(3, 60)
    eventually(lambda: proxy.offered() > some, "more are offered HTTP/2, and the same ones")


def test_everybody_is_offered_http2_at_100_percent(proxy: Proxy, tmp_path: Path) -> None:
    proxy.reload(4, 100)
    eventually(lambda: proxy.offered() == set(SOURCES), "everybody is offered HTTP/2")
    (tmp_path / "body").write_bytes(body("Once", 8))
    before = proxy.probe.metric("phase5_requests_total", outcome="ok", protocol="http2")
    url = f"https://{HOST}:{proxy.port}/v1/completions"
    answer = subprocess.run(
        [tool("nghttp"), "-d", str(tmp_path / "body"), url],
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    assert b"data: [DONE]" in answer
    served = proxy.probe.metric("phase5_requests_total", outcome="ok", protocol="http2")
    assert served == before + 1


def test_clients_are_served_on_when_the_second_port_closes(proxy: Proxy) -> None:
    proxy.reload(5, 0)
    answer = httpx.post(
        f"https://localhost:{proxy.port}/v1/completions",
        content=body("Once", 8),
        verify=proxy.context(),
        timeout=PATIENCE,
    )
    assert answer.status_code == 200
    assert "[DONE]" in answer.text
    eventually(lambda: not proxy.offered(), "nobody is offered HTTP/2")


def test_without_an_engine_nobody_is_offered_http2(proxy: Proxy) -> None:
    proxy.reload(6, 100)
    eventually(lambda: proxy.offered() == set(SOURCES), "everybody is offered HTTP/2")
    proxy.probe.served.process.kill()
    eventually(lambda: not proxy.offered(), "the proxy notices")
