"""However a run ends, nothing of it is left: no process, no port, no toxic."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from chaos.toxiproxy import Toxiproxy

Command = Callable[..., "subprocess.Popen[str]"]

#: Far above what it takes; a machine under load must not fail the tests.
PATIENCE = 60.0


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    return not [each for each in processes if each.is_running() and not _zombie(each)]


def _zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def ports(processes: list[psutil.Process]) -> list[int]:
    return [
        each.laddr.port
        for process in processes
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]


def toxic(server: Toxiproxy) -> bool:
    return any(proxy["toxics"] for proxy in server.proxies().values())


@pytest.fixture
def broken(command: Command, toxiproxy: Toxiproxy, tmp_path: Path) -> "subprocess.Popen[str]":
    """A run in the middle of its fault, on a server that outlives it."""
    process = command(
        *("chaos", "run", "network-latency", "--json"),
        *("--report", str(tmp_path / "report")),
        TOXIPROXY_URL=toxiproxy.url,
    )
    until(lambda: toxic(toxiproxy), "the fault is in force")
    return process


def test_ctrl_c_undoes_everything_and_the_journal_says_so(
    broken: "subprocess.Popen[str]", toxiproxy: Toxiproxy
) -> None:
    family = descendants(broken)
    listening = ports(family)
    broken.send_signal(signal.SIGINT)
    output, _ = broken.communicate(timeout=PATIENCE)
    assert broken.returncode == 1
    journal = json.loads(output)
    assert journal["verdict"] == "aborted"
    assert journal["rollbacks"]
    assert all(step["ok"] for step in journal["rollbacks"])
    assert toxiproxy.proxies() == {}
    assert gone(family)
    assert listening
    assert all(map(is_free, listening))


def test_sigkill_leaves_nothing_either(
    broken: "subprocess.Popen[str]", toxiproxy: Toxiproxy
) -> None:
    family = descendants(broken)
    listening = ports(family)
    broken.kill()
    broken.wait()
    until(lambda: gone(family), "all that it started ends")
    assert toxiproxy.proxies() == {}
    assert listening
    assert all(map(is_free, listening))


def test_a_runtime_that_stands_still_goes_as_well(command: Command, tmp_path: Path) -> None:
    process = command("chaos", "run", "runtime-stall", "--report", str(tmp_path / "report"))
    until(lambda: any(map(_is_stopped_runtime, descendants(process))), "the fault is in force")
    family = descendants(process)
    listening = ports(family)
    process.kill()
    process.wait()
    until(lambda: gone(family), "all that it started ends")
    assert listening
    assert all(map(is_free, listening))


def test_a_toxiproxy_of_its_own_goes_with_a_run_that_is_killed(
    command: Command, tmp_path: Path
) -> None:
    process = command("chaos", "run", "reset-peer", "--report", str(tmp_path / "report"))
    until(lambda: any("toxiproxy" in each.name() for each in descendants(process)), "a server")
    family = descendants(process)
    process.kill()
    process.wait()
    until(lambda: gone(family), "all that it started ends")


def _is_stopped_runtime(process: psutil.Process) -> bool:
    try:
        stopped = process.status() == psutil.STATUS_STOPPED
        return stopped and "engine.runtime.worker" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


Both = tuple["subprocess.Popen[str]", "subprocess.Popen[str]"]


@pytest.fixture
def both(command: Command, toxiproxy: Toxiproxy, tmp_path: Path) -> Both:
    """A guard without its Prometheus, and an engine on a full disk, each amid its fault."""
    guard = command(
        *("chaos", "run", "guard-loses-prometheus", "--report", str(tmp_path / "guard")),
        TOXIPROXY_URL=toxiproxy.url,
    )
    disk = command("chaos", "run", "disk-full", "--report", str(tmp_path / "disk"))
    place = tmp_path / "disk" / "runs" / "disk"
    moments: dict[subprocess.Popen[str], Callable[[], bool]] = {
        guard: lambda: toxic(toxiproxy),
        disk: lambda: _full(place, descendants(disk)),
    }

    def amid_their_faults() -> bool:
        for process in [each for each, has_come in moments.items() if has_come()]:
            process.send_signal(signal.SIGSTOP)  # so that it does not heal while the other is late
            del moments[process]
        return not moments

    until(amid_their_faults, "Prometheus is cut off, and the disk is full")
    return guard, disk


@pytest.mark.parametrize("turned", [False, True] if "PHASE5_FULL" in os.environ else [False])
def test_no_prometheus_guard_or_mount_is_left_by_ctrl_c_or_sigkill(
    both: Both, toxiproxy: Toxiproxy, *, turned: bool
) -> None:
    killed, interrupted = reversed(both) if turned else both
    families = [descendants(each) for each in both]
    listening = [port for family in families for port in ports(family)]
    held = [_mounts(process) for family in families for process in family]
    interrupted.send_signal(signal.SIGINT)
    interrupted.send_signal(signal.SIGCONT)
    killed.kill()
    assert interrupted.wait(PATIENCE) == 1
    killed.wait()
    for family in families:
        until(lambda family=family: gone(family), "all that they started ends")  # type: ignore[misc] # bound at once
    assert toxiproxy.proxies() == {}
    assert listening
    assert all(map(is_free, listening))
    # A mount of a namespace of its own goes with the last process that is in there.
    assert any(held)
    assert not any(map(_mounts, psutil.process_iter()))


def _full(place: Path, family: list[psutil.Process]) -> bool:
    """Whether a disk is mounted there, for one of a family, and not a byte of it is free."""
    for process in filter(_mounts, family):
        with suppress(OSError):
            found = os.statvfs(f"/proc/{process.pid}/root{place}")
            if not found.f_bavail:
                return True
    return False


def _mounts(process: psutil.Process) -> bool:
    try:
        return "phase5-disk" in Path("/proc", str(process.pid), "mounts").read_text()
    except OSError:
        return False
