"""An engine that serves nobody: only the HTTP that the commands and the guard use, over a socket.

It keeps the contract of `/v1/status` and `/admin/...` in memory; faults are played in order, one
for each request, before it answers well.
"""

import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from engine.core.flags import FLAGS

#: Of the subject in `gate_builders`.
COMMIT, CONFIG, VERSION, MACHINE = "c0ffee", "cf" * 32, "0.1.0", "linux-x86_64-2cpu"

#: Faults: a status code, or one of these.
HANG, GARBAGE, RESET = "hang", "garbage", "reset"
Fault = int | str


@dataclass
class FakeEngine:
    """What an engine is and has been told."""

    url: str = ""
    engine_id: str = "e1"
    commit: str = COMMIT
    config_sha256: str = CONFIG
    engine_version: str = VERSION
    machine: str = MACHINE
    model: tuple[str, str] = ("tiny", "aa" * 32)
    generation: int = 0
    token: str | None = None
    forced: float = 0.0  #: share that it serves whatever it is told, as with `--flags`
    shares: dict[str, float] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)
    brakes: dict[str, str] = field(default_factory=dict)
    told: list[tuple[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unmanaged: set[str] = field(default_factory=set)
    end: threading.Event = field(default_factory=threading.Event)

    def flag(self, name: str) -> dict[str, Any]:
        braked = name in self.brakes
        share = self.forced or (0.0 if braked else self.shares.get(name, 0.0))
        return {
            "enabled": share > 0,
            "percentage": share,
            "effective": share,
            "stage": self.stages.get(name, "off"),
            "epoch": 0,
            "braked": braked,
            "brake": self.brakes.get(name),
            "cause": "manual" if braked else None,
            "held": None,
            "unmanaged": name in self.unmanaged,
        }

    def answer(self, path: str, body: Any) -> dict[str, Any]:
        flags = {"generation": self.generation}
        if path == "/admin/rollback":
            self.told.append((path, body))
            for name in body["flags"] or FLAGS:
                self.brakes.setdefault(name, f"{self.engine_id}-{name}-{len(self.told)}")
            flags["brakes"] = dict(self.brakes)  # type: ignore[assignment] - one JSON object
        elif path == "/admin/rollout":
            self.told.append((path, body))
            flags |= self._take(body)
        elif path == "/admin/lease":
            return {"expires_at": 1000.0 + body["seconds"]}
        elif path == "/v1/status":
            flags |= self._identity()
        return {**flags, "flags": {name: self.flag(name) for name in FLAGS}}

    def _take(self, body: Any) -> dict[str, Any]:
        if body["generation"] < self.generation:
            return {"taken": False, "reason": "an older generation"}
        self.generation = body["generation"]
        for name, flag in body["flags"].items():
            self.shares[name] = flag["rollout_percentage"] if flag["enabled"] else 0.0
            self.stages[name] = flag["stage"] or "off"
            if self.brakes.get(name) in flag["lifted"]:
                del self.brakes[name]
        return {"taken": True, "generation": self.generation, "reason": None}

    def _identity(self) -> dict[str, Any]:
        return {
            "engine_id": self.engine_id,
            "ready": True,
            "machine": self.machine,
            "model": {"name": self.model[0], "sha256": self.model[1]},
            "engine_version": self.engine_version,
            "commit": self.commit,
            "config_sha256": self.config_sha256,
            "lease": {"expires_at": None, "lapsed": False, "frozen": False},
            "streams_in_flight": 0,
        }


class Handler(BaseHTTPRequestHandler):
    """Serves the engine that its server carries."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_: Any) -> None:
        """Tests have nothing to read there."""

    def do_GET(self) -> None:
        self.serve(None)

    def do_POST(self) -> None:
        size = int(self.headers["content-length"])
        self.serve(json.loads(self.rfile.read(size)))

    def serve(self, body: Any) -> None:
        engine = self.server.engine
        fault = engine.faults.pop(0) if engine.faults else 200
        if engine.token and self.headers["authorization"] != f"Bearer {engine.token}":
            fault = 401
        if fault == HANG:
            engine.end.wait()
        if fault in {HANG, RESET}:
            self.close_connection = True
        elif fault == GARBAGE:
            self.send(200, b"<html>")
        elif fault == 200:
            self.send(200, json.dumps(engine.answer(self.path, body)).encode())
        else:
            self.send(int(fault), json.dumps({"error": {"message": f"fault {fault}"}}).encode())

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """On a free port of loopback."""

    daemon_threads = True

    def __init__(self, engine: FakeEngine, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.engine = engine
        engine.url = f"http://127.0.0.1:{self.server_port}"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
            engine.url = f"https://localhost:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up in the middle of a handshake is what some tests are about."""


@contextmanager
def running(engine: FakeEngine, tls: ssl.SSLContext | None = None) -> Iterator[FakeEngine]:
    """Serve it; `engine.url` says where."""
    server = Server(engine, tls)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield engine
    finally:
        engine.end.set()
        server.shutdown()
        thread.join()
        server.server_close()


def dead_url() -> str:
    """The base of an engine that is not there: the port was free a moment ago."""
    with running(FakeEngine()) as engine:
        return engine.url


def paths(engine: FakeEngine) -> Sequence[str]:
    """What it was told to do, in order."""
    return [path for path, _ in engine.told]
