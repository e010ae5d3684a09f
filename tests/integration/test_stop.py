"""How an engine stops: in good order, at once, or because it was killed; and what is left."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
from pyreqwest.client import SyncClientBuilder
from served import PATIENCE, SERVE, alive, until

ENDLESS = 8_000
#: Of 8,192: a prompt of so many letters keeps the model reading for most of a second.
LONG_PROMPT = "x" * 8_000


class Engine:
    """`phase5 serve` in a process group and a folder of its own."""

    def __init__(self, folder: Path, config: str, flags: str = "off") -> None:
        self.folder = folder
        (folder / "runtime.yaml").write_text(config)
        (folder / "temporary").mkdir()
        with (folder / "stderr").open("w") as stderr:
            self.process = subprocess.Popen(
                [*SERVE, "--model=tiny", "--port=0", "--config=runtime.yaml", f"--flags={flags}"],
                cwd=folder,
                env={**os.environ, "TMPDIR": str(folder / "temporary")},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self.urls: list[str] = []
        self.child: psutil.Process | None = None

    def ready(self, ports: int = 1) -> None:
        assert self.process.stdout is not None
        for _ in range(ports):
            self.urls.append(self.process.stdout.readline().split()[1])
        self.child = self.find_child()

    def find_child(self) -> psutil.Process:
        """The runtime's process, which may be starting still."""
        children: list[psutil.Process] = []

        def found() -> bool:
            children[:] = [
                child
                for child in psutil.Process(self.process.pid).children()
                if "engine.runtime.worker" in child.cmdline()
            ]
            return bool(children)

        until(found)
        return children[0]

    def stream(self, prompt: str = "Where?", max_tokens: int = ENDLESS) -> socket.socket:
        """A request for a stream over a socket of our own, sent and not yet read."""
        body = {"model": "tiny", "prompt": prompt, "max_tokens": max_tokens}
        data = json.dumps({**body, "stream": True, "ignore_eos": True}).encode()
        sock = socket.create_connection(self.address(), timeout=PATIENCE)
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n"
        sock.sendall(head.encode() + data)
        return sock

    def address(self) -> tuple[str, int]:
        host, _, port = self.urls[0].removeprefix("http://").rpartition(":")
        return host, int(port)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.urls[0] + path, timeout=PATIENCE)

    def until_live(self, streams: int) -> None:
        until(lambda: self.get("/v1/status").json()["streams_in_flight"] == streams)

    def stands_still(self) -> bool:
        """Whether no token goes out for a while, although a stream lives."""
        tokens = [self._output_tokens() for _ in range(6)]
        return tokens[0] == tokens[-1] > 0

    def _output_tokens(self) -> float:
        lines = self.get("/metrics").text.splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("phase5_output_tokens_total{")
        )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def left_nothing(self) -> None:
        """No process, no socket, no file, and nothing that looks like a fault in the log."""
        assert self.child is not None
        child = self.child
        until(lambda: not alive(child))
        if self.urls:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(self.address(), timeout=PATIENCE).close()
        assert sorted(path.name for path in self.folder.iterdir()) == [
            *("runtime.yaml", "stderr", "temporary")
        ]
        # mlx keeps the kernels that it compiled, for whoever comes next.
        assert {path.name for path in (self.folder / "temporary").iterdir()} <= {"mlx"}
        assert "Traceback" not in (self.folder / "stderr").read_text()

    def clean_up(self) -> None:
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
            self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[MakeEngine]:
    """Start an engine: `drain` and `limit` are its configuration."""
    engines: list[Engine] = []

    def make(*, drain: float = 60, limit: int = 50, flags: str = "off") -> Engine:
        config = f"server: {{drain_seconds: {drain}}}\nadmission: {{limit: {limit}}}\n"
        engines.append(Engine(tmp_path, config, flags))
        return engines[-1]

    yield make
    for engine in engines:
        engine.clean_up()


def begin(sock: socket.socket) -> bytes:
    """Read until the stream has its first text."""
    data = b""
    while b'"text":"' not in data:
        data += (more := sock.recv(65_536))
        assert more, data
    return data


def rest(sock: socket.socket) -> bytes:
    """Everything until the engine closes the connection."""
    data = b""
    while more := sock.recv(65_536):
        data += more
    sock.close()
    return data


def test_a_stop_serves_who_was_let_in_and_refuses_newcomers_on_both_ports(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(limit=2, flags="http2_transport")
    engine.ready(ports=2)
    streams = [engine.stream(max_tokens=600) for _ in range(4)]
    engine.until_live(4)
    engine.signal(signal.SIGTERM)
    until(lambda: engine.get("/readyz").status_code == 503)
    newcomer = {"model": "tiny", "prompt": "Where?"}
    answer = httpx.post(f"{engine.urls[0]}/v1/completions", json=newcomer, timeout=PATIENCE)
    with SyncClientBuilder().http2_prior_knowledge().build() as client:
        second = client.post(f"{engine.urls[1]}/v1/completions").body_json(newcomer).build().send()
    for refused in (answer.status_code, second.status):
        assert refused == 503
    assert answer.headers["retry-after"] == second.headers["retry-after"] == "1"
    with ThreadPoolExecutor() as readers:  # two of them had no place yet
        for answered in readers.map(rest, streams):
            assert b'"finish_reason":"length"' in answered
    assert engine.process.wait(PATIENCE) == 0
    engine.left_nothing()


def test_streams_that_outlive_the_deadline_get_an_error_event_and_the_connection_ends(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(drain=0.2, limit=1)
    engine.ready()
    live = engine.stream()
    begin(live)
    queued = engine.stream()
    unread = engine.stream()  # whose client does not even take the answer
    engine.until_live(3)
    engine.signal(signal.SIGTERM)
    last = rest(live)
    assert b'"code":"stopped"' in last
    assert last.endswith(b"\n\n\r\n0\r\n\r\n")  # the answer itself is whole
    head = rest(queued)
    assert head.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in head
    assert engine.process.wait(PATIENCE) == 0
    unread.close()
    engine.left_nothing()


def test_a_client_that_does_not_read_cannot_hold_up_the_stop(make_engine: MakeEngine) -> None:
    engine = make_engine(drain=0.2)
    engine.ready()
    with closing(socket.socket()) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.settimeout(PATIENCE)
        sock.connect(engine.address())
        body = json.dumps({"model": "tiny", "prompt": "x", "max_tokens": ENDLESS, "stream": True})
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        sock.sendall((head + body).encode())
        begin(sock)
        until(engine.stands_still)
        engine.signal(signal.SIGTERM)
        assert engine.process.wait(PATIENCE) == 0
    engine.left_nothing()


def test_a_second_signal_ends_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine(drain=10 * PATIENCE)
    engine.ready()
    with closing(engine.stream()) as stream:
        begin(stream)
        engine.signal(signal.SIGTERM)
        until(lambda: engine.get("/readyz").status_code == 503)
        engine.signal(signal.SIGTERM)
        assert engine.process.wait(PATIENCE) == 1
    engine.left_nothing()


def test_ctrl_c_in_a_terminal_reaches_every_process_and_still_drains(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine()
    engine.ready()
    stream = engine.stream(max_tokens=400)
    begin(stream)
    os.killpg(engine.process.pid, signal.SIGINT)
    assert b'"finish_reason":"length"' in rest(stream)
    assert engine.process.wait(PATIENCE) == 0
    engine.left_nothing()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_model_loads_ends_in_good_order(
    make_engine: MakeEngine, number: signal.Signals
) -> None:
    engine = make_engine()
    engine.child = engine.find_child()
    os.killpg(engine.process.pid, number) if number is signal.SIGINT else engine.signal(number)
    assert engine.process.wait(PATIENCE) == 0
    assert engine.process.stdout is not None
    assert engine.process.stdout.read() == ""
    engine.left_nothing()


def test_a_runtime_that_stands_still_does_not_hold_up_the_stop(make_engine: MakeEngine) -> None:
    engine = make_engine(drain=0.2)
    engine.ready()
    assert engine.child is not None
    stream = engine.stream()
    begin(stream)
    engine.child.suspend()
    engine.signal(signal.SIGTERM)
    assert b'"code":"stopped"' in rest(stream)
    assert engine.process.wait(PATIENCE) == 0
    engine.left_nothing()


@pytest.mark.parametrize("stopped", [False, True], ids=["reading", "standing still"])
def test_a_killed_front_end_takes_a_runtime_along_that_reads_long_prompts(
    make_engine: MakeEngine, stopped: bool
) -> None:
    engine = make_engine()
    engine.ready()
    assert engine.child is not None
    streams = [engine.stream(LONG_PROMPT, max_tokens=1) for _ in range(8)]
    engine.until_live(8)
    if stopped:
        engine.child.suspend()
    engine.process.kill()
    engine.process.wait(PATIENCE)
    for stream in streams:
        stream.close()
    engine.left_nothing()
