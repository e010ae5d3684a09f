"""GitHub's API as far as a rollout calls it, over a socket; it remembers what it was asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeGithub:
    """One repository's API."""

    url: str = ""
    status: int = 201
    answer: Any = field(default_factory=lambda: {"id": 7})
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)

    def calls(self, method: str, ending: str) -> list[Any]:
        """Bodies of the calls of a method to a path that ends so."""
        return [b for m, path, b in self.asked if m == method and path.endswith(ending)]


class Handler(BaseHTTPRequestHandler):
    """Answers each call alike."""

    server: "Server"

    def log_message(self, *_: Any) -> None:
        """Tests have nothing to read there."""

    def do_GET(self) -> None:
        self.serve(None)

    def do_POST(self) -> None:
        self.serve(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def serve(self, body: Any) -> None:
        github = self.server.github
        github.asked.append((self.command, self.path, body))
        github.authorizations.add(str(self.headers["authorization"]))
        listed = self.command == "GET" and github.status < 300
        data = json.dumps([github.answer] if listed else github.answer).encode()
        self.send_response(github.status)
        self.send_header("content-length", "0" if github.status == 204 else str(len(data)))
        self.end_headers()
        if github.status != 204:
            self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """On a free port of loopback."""

    daemon_threads = True

    def __init__(self, github: FakeGithub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.github = github
        github.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def answering(github: FakeGithub) -> Iterator[FakeGithub]:
    """Serve it; `github.url` says where."""
    server = Server(github)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield github
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
