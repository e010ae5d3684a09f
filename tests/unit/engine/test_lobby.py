import asyncio
import gc
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from engine.runtime.certificate import make_certificate
from engine.runtime.dialling import FRONT_END, Invitation, dial, pinned
from engine.runtime.lobby import Lobby
from engine.runtime.messages import FromRuntime

#: Far above what anything here takes; a test that needs it has already failed.
PATIENCE_SECONDS = 30.0

Scene = Callable[[Lobby], Awaitable[None]]


def play(scene: Scene, handshake_seconds: float = PATIENCE_SECONDS) -> None:
    """Run a scene on the loop that the server runs on."""

    async def run() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.settimeout(0)
        lobby = Lobby(sock, "127.0.0.1", handshake_seconds)
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                await scene(lobby)
            finally:
                await lobby.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def ignore(_: FromRuntime) -> None:
    pass


async def until_closed(sock: socket.socket) -> None:
    """The other side closes; what it says before, such as a TLS alert, is of no interest."""
    sock.settimeout(PATIENCE_SECONDS)
    while await asyncio.to_thread(_receive, sock):
        pass
    sock.close()


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(4096)
    except ConnectionError:
        return b""


def over_tls(invitation: Invitation) -> socket.socket:
    """A client that may say whatever it likes."""
    plain = socket.create_connection((invitation.host, invitation.port))
    return pinned(invitation.certificate).wrap_socket(plain, server_hostname=FRONT_END)


def test_a_guest_is_let_in_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(lobby: Lobby) -> None:
        with lobby.expect(ignore) as guest:
            token = guest.invitation.token
            first = await asyncio.to_thread(over_tls, guest.invitation)
            first.sendall(token.encode())
            await guest.arrived
            second = await asyncio.to_thread(over_tls, guest.invitation)
            second.sendall(token.encode())
            await until_closed(second)
            assert not guest.link.ended.done()
            guest.link.abort()
            await until_closed(first)
        assert token not in caplog.text

    play(scene)
    assert "wrong token" in caplog.text


def test_a_guest_finds_its_own_connection_among_several() -> None:
    async def scene(lobby: Lobby) -> None:
        with lobby.expect(ignore) as one, lobby.expect(ignore) as other:
            sock = await asyncio.to_thread(dial, other.invitation)
            await other.arrived
            assert not one.arrived.done()
            other.link.abort()
            await until_closed(sock)

    play(scene)


@pytest.mark.parametrize(
    "shown", [b"0" * 64, b"\xff" * 64, b"0" * 100_000], ids=["wrong", "binary", "long"]
)
def test_a_wrong_token_is_closed_and_logged_without_it(
    shown: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(lobby: Lobby) -> None:
        with lobby.expect(ignore) as guest:
            sock = await asyncio.to_thread(over_tls, guest.invitation)
            sock.sendall(shown)
            await until_closed(sock)
            assert not guest.arrived.done()
            assert guest.invitation.token not in caplog.text

    play(scene)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "wrong token" in record.message
    assert "0000" not in record.message


def test_a_token_is_worth_nothing_once_nobody_waits_for_its_guest() -> None:
    async def scene(lobby: Lobby) -> None:
        with lobby.expect(ignore) as guest:
            pass
        sock = await asyncio.to_thread(over_tls, guest.invitation)
        sock.sendall(guest.invitation.token.encode())
        await until_closed(sock)
        assert not guest.arrived.done()

    play(scene)


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"GET / HTTP/1.1\r\n\r\n", "no TLS handshake"), (b"\0" * 999, "no TLS handshake")],
    ids=["HTTP", "garbage"],
)
def test_who_speaks_no_tls_is_closed_and_logged(
    said: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(lobby: Lobby) -> None:
        sock = socket.create_connection((lobby.host, lobby.port))
        sock.sendall(said)
        await until_closed(sock)

    play(scene)
    assert reason in caplog.text


def test_who_leaves_before_the_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(lobby: Lobby) -> None:
        with lobby.expect(ignore) as guest:
            sock = await asyncio.to_thread(over_tls, guest.invitation)
            sock.sendall(b"0" * 10)
            sock.close()
            while not caplog.records:  # noqa: ASYNC110  # logs have none
                await asyncio.sleep(0)

    play(scene)
    assert "closed a connection from 127.0.0.1" in caplog.text


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_who_says_nothing_has_bounded_time(tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(lobby: Lobby) -> None:
        with lobby.expect(ignore) as guest:
            if tls:
                sock = await asyncio.to_thread(over_tls, guest.invitation)
            else:
                sock = socket.create_connection((lobby.host, lobby.port))
            await until_closed(sock)

    play(scene, handshake_seconds=0.3)
    assert "no token within 0.3 s" in caplog.text


def test_a_process_that_meets_another_certificate_gives_nothing_away() -> None:
    async def scene(lobby: Lobby) -> None:
        with lobby.expect(ignore) as guest:
            other, _ = make_certificate()
            astray = replace(guest.invitation, certificate=other)
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(dial, astray)
            assert not guest.arrived.done()

    play(scene)


def test_a_lobby_that_is_closed_answers_nobody() -> None:
    async def scene(lobby: Lobby) -> None:
        silent = socket.create_connection((lobby.host, lobby.port))
        with lobby.expect(ignore) as guest:
            await lobby.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(dial, guest.invitation)
        await until_closed(silent)

    play(scene)


def test_an_invitation_is_taken_out_of_the_environment_and_not_printed() -> None:
    invitation = Invitation(host="::1", port=5, certificate="PEM", token="secret")  # noqa: S106  # it is none
    environment = {"OTHER": "1", **invitation.environment()}
    assert Invitation.accept(environment) == invitation
    assert environment == {"OTHER": "1"}
    assert "secret" not in f"{invitation!r} {invitation}"
    with pytest.raises(ConnectionError, match="PHASE5_LINK_TOKEN"):
        Invitation.accept(environment)


def test_making_a_certificate_leaves_no_file_and_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    gc.collect()  # what other tests left behind must not be closed meanwhile
    before = set(Path("/dev/fd").iterdir())
    one, _ = make_certificate()
    two, _ = make_certificate()
    assert one != two
    assert "PRIVATE" not in one
    assert set(Path("/dev/fd").iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_between_is_dialled_instead() -> None:
    async def run() -> None:
        lobby = Lobby.open("127.0.0.1", dial="proxy.example:4711")
        try:
            with lobby.expect(ignore) as guest:
                assert (guest.invitation.host, guest.invitation.port) == ("proxy.example", 4711)
        finally:
            await lobby.close()

    asyncio.run(run())
