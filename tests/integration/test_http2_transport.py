"""HTTP/2 on a running engine: real streams on one connection, and none lost (D21)."""

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from http2 import (
    Call,
    all_whole,
    announced_streams,
    calls,
    certificate,
    port,
    prior_knowledge,
    rollout,
    run,
    tool,
)
from probe import HOST, Probe, body, eventually, full, probing
from served import PATIENCE, serving

from engine.server.listeners import CONNECTION_STREAMS

#: Streams at once; a connection carries 100.
STREAMS = 100 if full() else 24
LIVE = 6
#: Long enough to be under way while something happens, which takes milliseconds.
TOKENS = 300


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    config = rollout(1, 100) + "admission: {limit: 100}\n"
    with probing(tmp_path_factory.mktemp("http2"), config, None) as probe:
        yield probe


def h2_url(probe: Probe) -> str:
    endpoints: Any = probe.served.status()["endpoints"]
    return str(endpoints["http2"])


def reload(probe: Probe, config: str) -> None:
    (probe.log.parent / "runtime.yaml").write_text(config)
    httpx.post(f"{probe.url}/admin/reload", timeout=PATIENCE).raise_for_status()


def test_the_server_announces_100_streams_for_a_connection(engine: Probe) -> None:
    assert announced_streams(h2_url(engine)) == CONNECTION_STREAMS == 100


def test_many_streams_share_one_connection(engine: Probe) -> None:
    url = h2_url(engine)
    before = engine.metric("phase5_connections_opened_total", protocol="http2")

    async def story() -> None:
        async with prior_knowledge() as client:
            made = [Call(client, url, 16) for _ in range(STREAMS)]
            assert await all_whole(made)
            assert {call.headers["x-phase5-flags"] for call in made} == {"http2_transport"}
            # Nothing is under way now, but the connection is open.
            assert engine.metric("http2_connections") == 1

    run(story)
    assert engine.metric("phase5_connections_opened_total", protocol="http2") == before + 1
    eventually(lambda: engine.metric("http2_connections") == 0, "its end is noticed")
    assert engine.metric("phase5_connection_requests_sum", protocol="http2") >= STREAMS


def test_h2load_gets_every_answer_over_one_connection(engine: Probe, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(body("Once", 8))
    answer = subprocess.run(
        [
            *(tool("h2load"), "-n", str(STREAMS), "-c", "1", "-m", "100"),
            *("-d", str(tmp_path / "body"), f"{h2_url(engine)}/v1/completions"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout
    assert f"{STREAMS} succeeded, 0 failed, 0 errored, 0 timeout" in answer
    assert f"status codes: {STREAMS} 2xx, 0 3xx, 0 4xx, 0 5xx" in answer


def test_a_reset_cancels_its_stream_and_no_other(engine: Probe) -> None:
    url = h2_url(engine)
    before = engine.samples()
    names = ("phase5_streams_reset_total", "protocol", "http2")

    async def story() -> None:
        async with prior_knowledge() as client:
            first, *others = await calls(client, url, LIVE, TOKENS)
            first.task.cancel()
            assert await all_whole(others)
            eventually(
                lambda: (
                    engine.metric(names[0], protocol="http2")
                    == before[names[0], frozenset({names[1:]})] + 1
                ),
                "the reset is counted",
            )
            assert engine.metric("http2_connections") == 1

    run(story)
    eventually(engine.idle, "nothing is left of the stream")


def test_the_port_closes_at_0_percent_and_opens_again_and_no_stream_is_lost(
    engine: Probe,
) -> None:
    url = h2_url(engine)
    flags = {"generation": 2}

    def ask() -> httpx.Response:
        return httpx.post(f"{engine.url}/v1/completions", content=body("Once", 1), timeout=PATIENCE)

    async def story() -> None:
        async with prior_knowledge() as client:
            made = await calls(client, url, LIVE, TOKENS)
            reload(engine, rollout(flags["generation"], 0))
            assert engine.served.status()["endpoints"]["http2"] is None  # type: ignore[index]  # a JSON object
            assert ask().headers["alt-svc"] == "clear"
            assert await all_whole(made)
        eventually(lambda: refused(url), "the port is closed")
        reload(engine, rollout(flags["generation"] + 1, 100))
        assert h2_url(engine) == url
        assert f'h2c=":{port(url)}"' in ask().headers["alt-svc"]
        async with prior_knowledge() as client:
            assert await all_whole(await calls(client, url, 1, 4))

    before = engine.metric("phase5_connections_goaways_total", protocol="http2")
    run(story)
    assert engine.metric("phase5_connections_goaways_total", protocol="http2") == before + 1
    assert engine.metric("phase5_requests_total", outcome="failed") == 0
    assert engine.metric("phase5_requests_total", outcome="cut") == 0


def refused(url: str) -> bool:
    try:
        socket.create_connection((HOST, port(url)), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_reload_loses_no_stream(engine: Probe) -> None:
    url = h2_url(engine)
    generation = int(str(engine.served.status()["generation"]))

    async def story() -> None:
        async with prior_knowledge() as client:
            made = await calls(client, url, LIVE, TOKENS)
            reload(engine, rollout(generation + 1, 50))
            assert await all_whole(made)
            assert engine.metric("http2_connections") == 1

    run(story)


def test_a_hangup_reloads(engine: Probe) -> None:
    """D17: there was no handler of SIGHUP, and nothing to signal."""
    generation = int(str(engine.served.status()["generation"])) + 1
    (engine.log.parent / "runtime.yaml").write_text(rollout(generation, 100))
    os.kill(engine.served.process.pid, signal.SIGHUP)
    eventually(lambda: engine.served.status()["generation"] == generation, "it is reloaded")


def test_a_changed_file_is_followed_without_being_told(engine: Probe) -> None:
    generation = int(str(engine.served.status()["generation"])) + 1
    file = engine.log.parent / "runtime.yaml"
    new = file.with_suffix(".new")
    new.write_text(rollout(generation, 100))
    new.rename(file)
    eventually(lambda: engine.served.status()["generation"] == generation, "it is reloaded")
    last: Any = engine.served.status()["reload"]
    assert (last["outcome"], last["source"]) == ("applied", "file")


def test_a_drain_loses_no_stream(tmp_path: Path) -> None:
    with serving(tmp_path, "http2_transport") as served:

        async def story() -> None:
            async with prior_knowledge() as client:
                made = await calls(client, served.h2_url, LIVE, TOKENS)
                served.process.terminate()
                assert await all_whole(made)

        run(story)
        assert served.process.wait(PATIENCE) == 0


def test_nghttp_keeps_its_stream_through_a_drain(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(body("Once", TOKENS))
    command = (tool("nghttp"), "-d", str(tmp_path / "body"))
    with (
        serving(tmp_path, "http2_transport") as served,
        subprocess.Popen(
            [*command, f"{served.h2_url}/v1/completions"], stdout=subprocess.PIPE
        ) as client,
    ):
        assert client.stdout is not None
        first = client.stdout.readline()
        served.process.terminate()
        text = first + client.stdout.read()
        assert client.wait(PATIENCE) == 0
        assert text.rstrip().endswith(b"data: [DONE]")
        assert served.process.wait(PATIENCE) == 0


_GET = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"


def handshake(url: str, context: ssl.SSLContext) -> str | None:
    """The protocol that both sides agree on. TLS 1.3 tells a refusal only on the first read."""
    with (
        socket.create_connection((HOST, port(url)), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        agreed = sock.selected_alpn_protocol()
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if agreed == "h2" else _GET)
        sock.recv(1)
        return agreed


def trusting(ca: Path, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(list(protocols))
    return context


def test_tls_agrees_on_the_protocol_and_asks_for_the_clients_certificate(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    mine, secret = certificate(tmp_path, "client")
    with serving(
        tmp_path,
        "http2_transport",
        config=f"server: {{tls_client_ca: {mine}}}\n",
        options=("--tls-cert", str(cert), "--tls-key", str(key)),
    ) as served:
        assert served.h2_url.startswith("https://")
        context = trusting(cert, "h2", "http/1.1")
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            handshake(served.h2_url, context)
        context.load_cert_chain(mine, secret)
        assert handshake(served.h2_url, context) == "h2"
        older = trusting(cert, "http/1.1")
        older.load_cert_chain(mine, secret)
        assert handshake(served.h2_url, older) == "http/1.1"
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            handshake(served.h2_url, older)
