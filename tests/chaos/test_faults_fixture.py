"""The fixture `faults`: a proxy for a test of one's own, and everything put back."""

import httpx
import pytest

from chaos.errors import ChaosError
from chaos.toxiproxy import Toxic, Toxiproxy, ToxiproxyError
from pytest_phase5.breaking.fixture import Faults


def test_a_test_puts_a_proxy_in_front_of_what_it_likes(
    faults: Faults, toxiproxy: Toxiproxy
) -> None:
    """A server that any machine with this suite has: the other Toxiproxy."""
    with faults.proxy(toxiproxy.url.removeprefix("http://")) as proxy:
        whole = httpx.get(f"{proxy.url()}/version", trust_env=False)
        assert whole.json() == {"version": "git"}
        proxy.add(Toxic(type="reset_peer"))
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{proxy.url()}/version", trust_env=False)
    assert faults.toxiproxy.proxies() == {}
    faults.close()
    with pytest.raises(ToxiproxyError, match="ConnectionError"):
        Toxiproxy(faults.toxiproxy.url).version()


def test_an_experiment_has_to_be_named(faults: Faults) -> None:
    with pytest.raises(pytest.UsageError, match=r"allowed: @pytest\.mark\.chaos"):
        faults.run()
    with pytest.raises(ChaosError, match="experiment 'runtime-kil'; allowed: runtime-kill"):
        faults.run("runtime-kil")
