"""The packaged suite on `tiny`, its verdict, and a real engine that then serves 1 %."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml
from act_runs import ROOT
from hub import FLAG, Hub
from test_rollout_workflow import PROMOTED

from engine.runtime.models import cache_folder


@contextmanager
def serving(config: Path) -> Iterator[str]:
    """An engine of the fleet."""
    command = [sys.executable, "-P", "-m", "pytest_phase5.cli", "serve", "--model=tiny"]
    process = subprocess.Popen(
        [*command, "--port=0", f"--config={config}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        process.communicate()


def one_criterion() -> str:
    """The packaged policy, with a door that demands that engines start with every flag set."""
    packaged = (ROOT / "config" / "gates.yaml").read_text("utf-8")
    policy, changed = re.subn(r"enter: \[[a-z0-9_, ]+\]", "enter: [flag_sets_start]", packaged)
    assert changed
    return policy


def test_the_real_gate_moves_a_real_engine(hub: Hub) -> None:
    config = hub.folder / "fleet" / "runtime.yaml"
    config.parent.mkdir()
    config.write_text("generation: 3\n", "utf-8")
    with serving(config) as url:
        hub.engine.url = url
        hub.state("off", 0, epoch=0)
        (hub.work / "config" / "runtime.yaml").write_text(yaml.safe_dump(hub.rollout()), "utf-8")
        (hub.work / "pytest.ini").write_text("[pytest]\n", "utf-8")
        (hub.work / "config" / "gates.yaml").write_text(one_criterion(), "utf-8")
        hub.commit("the packaged suite")
        ran = hub.run(
            flags=f"off,{FLAG}",
            model="tiny",
            variables={"PHASE5_TESTS": "config"},
            environment={"PHASE5_CACHE": str(cache_folder())},
        )
        assert ran.jobs == PROMOTED, ran.log
        status = httpx.get(f"{url}/v1/status", trust_env=False).json()
    assert (hub.stage, status["flags"][FLAG]["stage"]) == ("canary", "canary")
    assert (status["flags"][FLAG]["percentage"], status["flags"][FLAG]["braked"]) == (1, False)
    assert yaml.safe_load(hub.show("config/runtime.yaml"))["generation"] == 4
