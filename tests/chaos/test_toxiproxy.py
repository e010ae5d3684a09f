"""The real server: what is in force is what was asked for, or an error says so."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.errors import FaultError
from chaos.serving import borrowed, serving
from chaos.toxiproxy import Toxic, Toxiproxy, ToxiproxyError
from pytest_phase5.breaking.stage import LEASH


def is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def test_a_toxic_is_read_back_and_gone_when_removed(toxiproxy: Toxiproxy) -> None:
    with toxiproxy.proxy("x", "127.0.0.1:9") as proxy:
        toxic = Toxic(type="latency", attributes={"latency": 300, "jitter": 20})
        assert proxy.add(toxic)["attributes"] == {"latency": 300, "jitter": 20}
        proxy.remove(toxic.name)
        with pytest.raises(ToxiproxyError, match="toxic not found"):
            proxy.toxic(toxic.name)


@pytest.mark.parametrize(
    ("toxic", "words"),
    [
        (
            Toxic(type="latency", attributes={"latncy": 5}),
            "unknown attribute 'latncy'; allowed: jitter, latency",
        ),
        (Toxic(type="latncy"), "invalid toxic type"),
        (Toxic(type="latency", stream="sideways"), "stream was invalid"),
    ],
)
def test_a_misspelt_toxic_is_an_error_and_not_in_force(
    toxiproxy: Toxiproxy, toxic: Toxic, words: str
) -> None:
    with toxiproxy.proxy("x", "127.0.0.1:9") as proxy:
        with pytest.raises(ToxiproxyError, match=words):
            proxy.add(toxic)
        assert toxiproxy.proxies()[proxy.name]["toxics"] == []


def test_a_toxicity_that_is_no_share_is_refused() -> None:
    with pytest.raises(FaultError, match=r"toxicity 2; allowed: 0 to 1"):
        Toxic(type="latency", toxicity=2)


def test_two_servers_do_not_mistake_each_other(
    toxiproxy: Toxiproxy, binary: Path, tmp_path: Path
) -> None:
    with (
        serving(binary, LEASH, tmp_path / "other.log") as other,
        other.proxy("theirs", "127.0.0.1:9"),
        toxiproxy.proxy("ours", "127.0.0.1:9"),
    ):
        assert [name.rpartition("-")[2] for name in toxiproxy.proxies()] == ["ours"]
        assert [name.rpartition("-")[2] for name in other.proxies()] == ["theirs"]


def test_a_proxy_that_is_off_refuses_and_one_that_is_gone_has_no_port(
    toxiproxy: Toxiproxy,
) -> None:
    with toxiproxy.proxy("x", "127.0.0.1:9") as proxy:
        assert not is_free(proxy.listen)
        assert proxy.enable(on=False)["enabled"] is False
        assert is_free(proxy.listen)
        assert proxy.enable(on=True)["enabled"] is True
    assert is_free(proxy.listen)
    assert toxiproxy.proxies() == {}


def test_a_dead_server_is_an_error_and_not_silence(binary: Path, tmp_path: Path) -> None:
    with serving(binary, LEASH, tmp_path / "log") as server:
        server.version()
    with pytest.raises(ToxiproxyError, match="ConnectionError"):
        server.version()


def test_a_server_that_is_no_server_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(ToxiproxyError, match="did not start"),
        serving(Path("/bin/false"), LEASH, tmp_path / "log"),
    ):
        pass


def test_what_was_made_on_a_borrowed_server_goes_when_its_maker_is_killed(
    toxiproxy: Toxiproxy,
) -> None:
    code = (
        "import os, signal, sys\n"
        "from chaos.serving import borrowed\n"
        "with borrowed(sys.argv[1]) as server, server.proxy('x', '127.0.0.1:9'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, toxiproxy.url], check=False)
    assert done.returncode == -9
    while toxiproxy.proxies():  # the sweeper is at it
        pass
    with borrowed(toxiproxy.url) as again, again.proxy("x", "127.0.0.1:9") as proxy:
        assert str(os.getpid()) in proxy.name
    assert toxiproxy.proxies() == {}
