"""What the proxy is told; `tests/integration/test_haproxy.py` has the real one."""

import logging
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.haproxy import NOTHING, Follower, Offer, ProxyError, commands, offer, tell


def status(effective: float, url: str | None = "http://127.0.0.1:81") -> dict[str, Any]:
    return {
        "endpoints": {"http2": url},
        "flags": {"http2_transport": {"effective": effective}},
    }


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (status(12.34), Offer(1234, ("127.0.0.1", 81))),
        (status(100, None), NOTHING),
        (status(100, "https://127.0.0.1:81"), NOTHING),
        (status(0), Offer(0, ("127.0.0.1", 81))),
    ],
)
def test_what_a_status_asks_for(document: dict[str, Any], expected: Offer) -> None:
    assert offer(document) == expected


def test_the_proxy_knows_the_port_before_it_sends_anybody_there() -> None:
    assert commands(Offer(3000, ("h", 81)), "m") == [
        "set server second_port/http2 addr h port 81",
        "set map m share 3000",
    ]
    assert commands(NOTHING, "m") == ["set map m share 0"]


class Admin(threading.Thread):
    """A proxy's admin socket with one answer for everything."""

    def __init__(self, path: Path, answer: bytes, times: int) -> None:
        super().__init__()
        self.heard: list[str] = []
        self._answer = answer
        self._times = times
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(10)
        self._sock.bind(str(path))
        self._sock.listen()
        self.start()

    def run(self) -> None:
        with self._sock:
            for _ in range(self._times):
                connection, _ = self._sock.accept()
                with connection:
                    self.heard.append(connection.recv(4096).decode().strip())
                    connection.sendall(self._answer)


def test_a_refusal_of_the_proxy_is_an_error_with_its_words(tmp_path: Path) -> None:
    admin = Admin(tmp_path / "s", b"No such server.\n\n", 1)
    with pytest.raises(ProxyError, match="set server x: No such server"):
        tell(tmp_path / "s", "set server x")
    admin.join()


@pytest.mark.parametrize("answer", [b"\n", b"no need to change the addr\n", b"port changed\n"])
def test_a_change_and_none_are_no_refusal(tmp_path: Path, answer: bytes) -> None:
    admin = Admin(tmp_path / "s", answer, 1)
    tell(tmp_path / "s", "set server x")
    admin.join()
    assert admin.heard == ["set server x"]


def follower(folder: Path, answer: Any) -> Follower:
    transport = httpx.MockTransport(answer)
    return Follower(httpx.Client(transport=transport, base_url="http://e"), folder / "s", "m")


def test_an_engine_without_a_status_has_no_share_and_that_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admin = Admin(tmp_path / "s", b"\n", 2)
    following = follower(tmp_path, lambda _: httpx.Response(503))
    with caplog.at_level(logging.WARNING):
        following.follow()
        following.follow()
    admin.join()
    assert admin.heard == ["set map m share 0"] * 2
    assert len(caplog.messages) == 1
    assert "503" in caplog.messages[0]


def test_a_proxy_that_is_away_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    following = follower(tmp_path, lambda _: httpx.Response(200, json=status(100)))
    following.follow()
    assert "the proxy was not told" in caplog.messages[-1]
    admin = Admin(tmp_path / "s", b"\n", 2)
    following.follow()
    admin.join()
    assert admin.heard[-1] == "set map m share 10000"
    assert caplog.messages[-1] == "100 % are offered HTTP/2"
