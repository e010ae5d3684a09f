"""A client of one byte a second holds up its own stream and nobody else's."""

import itertools
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from probe import HOST, Probe, Samples, body, eventually, head, probing, total
from served import PATIENCE

from engine.core.flags import TTFT_PIPELINE, assigned

pytestmark = pytest.mark.alone

BUFFER_TOKENS = 16
#: Tokens that the runtime makes before it hears that it should stand still: a few, also when
#: the front end gets no turn for a while.
UNDER_WAY = 64
YAML = f"""
server: {{buffer_tokens: {BUFFER_TOKENS}, slow_reader_seconds: 4}}
phase4_rollout:
  ttft_pipeline: {{enabled: true, rollout_percentage: 50, holdback_percentage: 0}}
"""
#: `tiny`'s context is 8,192: about 2 MB of events, 20 times what all buffers hold.
LONG = 8_000
#: Tokens of the neighbour over which something is compared or must not change.
SPAN = 100
BLOCK = 50
#: Both decode beside one more stream now and then, on a machine that others use as well.
PACE = 4.0
#: The answer itself is 2 MB; a process that grows by this keeps far more than it may.
GROWTH_BYTES = 64 * 1024 * 1024


def key(*, treatment: bool) -> str:
    """A key that is, or is not, in treatment: the arms have counters of their own."""
    keys = (f"client-{number}" for number in range(1000))
    return next(each for each in keys if assigned(TTFT_PIPELINE, each, 50) is treatment)


class Neighbour(threading.Thread):
    """Reads its own stream as it comes, and notes when."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.times: list[float] = []
        self.last = ""

    def run(self) -> None:
        headers = {"x-phase5-key": key(treatment=False)}
        content = body("A neighbour", LONG)
        url = f"{self._url}/v1/completions"
        with httpx.stream("POST", url, content=content, headers=headers, timeout=PATIENCE) as got:
            assert got.headers["x-phase5-flags"] == "off"
            for line in got.iter_lines():
                if line.startswith("data: "):
                    self.times.append(time.monotonic())
                    self.last = line

    def go_on(self, events: int) -> None:
        """Wait for some more of its events."""
        seen = len(self.times)
        eventually(lambda: len(self.times) >= seen + events, "the neighbour goes on")

    def pace(self, begin: int, end: int) -> float:
        """The median time for a block of these events; several often come at once."""
        marks = self.times[begin:end:BLOCK]
        return statistics.median(later - earlier for earlier, later in itertools.pairwise(marks))


@contextmanager
def one_byte_a_second(probe: Probe) -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((HOST, probe.port()))
        content = body("A slow one", LONG)
        headers = {"x-request-id": "the-slow-one", "x-phase5-key": key(treatment=True)}
        sock.sendall(head(content, **headers) + content)
        stop = threading.Event()
        reader = threading.Thread(target=_sip, args=(sock, stop), daemon=True)
        reader.start()
        try:
            yield sock
        finally:
            stop.set()
            reader.join(PATIENCE)


def _sip(sock: socket.socket, stop: threading.Event) -> None:
    while not stop.wait(1.0):
        try:
            sock.recv(1)
        except OSError:
            return


def sent_to_the_slow_one(samples: Samples) -> float:
    return total(samples, "phase5_output_tokens_total", ttft_pipeline="on")


def made_for_the_slow_one(samples: Samples) -> float:
    """Tokens that came from the runtime, taken or not: they have one gap less."""
    return total(samples, "phase5_inter_token_seconds_count", ttft_pipeline="on") + 1


def stands_still(probe: Probe, neighbour: Neighbour) -> bool:
    """Whether the slow stream is paused and gets nothing while the neighbour gets much."""
    before = probe.samples()
    neighbour.go_on(SPAN)
    after = probe.samples()
    paused = [total(each, "phase5_streams_paused") for each in (before, after)]
    waiting = [total(each, "phase5_sends_waiting") for each in (before, after)]
    return (
        paused == [1, 1]
        and min(waiting) >= 1
        and made_for_the_slow_one(before) == made_for_the_slow_one(after) > 1
    )


def test_a_reader_of_one_byte_a_second_slows_its_own_stream_and_is_dropped_with_a_reason(
    tmp_path: Path,
) -> None:
    with probing(tmp_path, YAML, flags=None) as probe:
        neighbour = Neighbour(probe.url)
        neighbour.start()
        neighbour.go_on(SPAN)  # warm
        before = memory(probe)
        alone = len(neighbour.times)
        neighbour.go_on(10 * BLOCK)
        with one_byte_a_second(probe) as sock:
            beside = len(neighbour.times)
            eventually(lambda: stands_still(probe, neighbour), "the slow stream stands still")
            paused = len(neighbour.times)
            grown = [now - then for then, now in zip(before, memory(probe), strict=True)]
            eventually(lambda: dropped(probe) == 1, "the slow stream is dropped")
            client = sock.getsockname()
            held = probe.front.net_connections("tcp")
            assert not [each for each in held if each.raddr == client]
            samples = probe.samples()
            sent, made = sent_to_the_slow_one(samples), made_for_the_slow_one(samples)
        neighbour.join(PATIENCE)

        assert 0 < sent < LONG / 4
        assert made <= sent + BUFFER_TOKENS + UNDER_WAY
        assert max(grown) < GROWTH_BYTES
        assert neighbour.last == "data: [DONE]"
        assert neighbour.pace(beside, paused) < PACE * neighbour.pace(alone, beside)
        assert f"request the-slow-one: dropped after {sent:.0f} output tokens: slow_reader" in (
            probe.log.read_text()
        )
        assert probe.metric("phase5_requests_total", outcome="cancelled") == 1
        assert probe.metric("phase5_requests_total", outcome="failed") == 0
        assert probe.metric("phase5_streams_ended_total", kind="cancelled") == 1
        eventually(probe.idle, "nothing is left of either stream")


def dropped(probe: Probe) -> float:
    return probe.metric("phase5_streams_dropped_total", reason="slow_reader")


def memory(probe: Probe) -> list[int]:
    """Resident bytes of the front end and of the runtime."""
    return [process.memory_info().rss for process in (probe.front, probe.runtime)]
