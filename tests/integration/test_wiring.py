"""Each flag set on a running engine: exactly the enabled features act (D16).

One engine is led through all sixteen sets by reloads, so that what a feature did in one set
would show in the counters of the next.
"""

from collections.abc import Iterator

import httpx
import pytest
from http2 import Call, all_whole, run
from probe import Probe, Samples, full, probing, total
from pyreqwest.client import ClientBuilder
from served import PATIENCE

from engine.core.flags import (
    ADAPTIVE_GOVERNOR,
    FLAGS,
    HTTP2_TRANSPORT,
    QOS_MONITORING,
    TTFT_PIPELINE,
    FlagSet,
    every_flag_set,
    flag_set_name,
    joined,
)

LIMIT = 100
#: Streams at once.
SIZES = (10, 50, 100) if full() else (4,)
TOKENS = 6
#: What the prompts share, longer than the shortest prefix that is kept.
SHARED = "The committee met on Tuesday and agreed on nothing. " * 12
REQUESTS = "phase5_requests_total"


def config(generation: int, flags: FlagSet) -> str:
    """These flags at 100 %, the others at 0 %."""
    share = "enabled: {}, rollout_percentage: 100, holdback_percentage: 0"
    rollout = "".join(
        f"  {flag}: {{{share.format(str(flag in flags).lower())}}}\n" for flag in FLAGS
    )
    return (
        f"generation: {generation}\nphase4_rollout:\n{rollout}"
        f"admission: {{limit: {LIMIT}}}\n"
        # The governor's highest limit tells it from the fixed one.
        # A minute to the first token, so that it sheds nobody on a slow machine.
        f"governor: {{min_limit: 4, max_limit: {LIMIT - 1}, target_ttft_ms: 60000}}\n"
        # On a slow machine many streams really break a service level, and the remedy would move
        # the limit, by which the governor is told here.
        "qos: {remediation: {dry_run: true}}\n"
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    folder = tmp_path_factory.mktemp("wiring")
    with probing(folder, config(0, frozenset()), None) as probe:
        yield probe


@pytest.fixture(scope="module")
def generation() -> Iterator[int]:
    return iter(range(1, 1000))


async def traffic(url: str, n: int, *, http2: bool) -> list[Call]:
    builder = ClientBuilder()
    async with (
        builder.http2_prior_knowledge() if http2 else builder.http1_only()
    ).build() as client:
        # One goes ahead, so that there is a prefix to reuse.
        first = Call(client, url, TOKENS, SHARED)
        assert await first.whole()
        others = [Call(client, url, TOKENS, SHARED) for _ in range(n - 1)]
        assert await all_whole(others)
        return [first, *others]


def grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    return total(after, name, **labels) - total(before, name, **labels)


@pytest.mark.parametrize("flags", every_flag_set(), ids=flag_set_name)
@pytest.mark.parametrize("n", SIZES)
def test_exactly_the_enabled_features_act(
    engine: Probe, generation: Iterator[int], flags: FlagSet, n: int
) -> None:
    (engine.log.parent / "runtime.yaml").write_text(config(next(generation), flags))
    answer = httpx.post(f"{engine.url}/admin/reload", timeout=PATIENCE)
    assert answer.json()["reloaded"], answer.text
    h2_url = engine.served.status()["endpoints"]["http2"]  # type: ignore[index]  # a JSON object
    assert (h2_url is not None) is (HTTP2_TRANSPORT in flags)

    before = engine.samples()
    made = run(lambda: traffic(h2_url or engine.url, n, http2=h2_url is not None))
    after = engine.samples()

    assert {call.headers["x-phase5-flags"] for call in made} == {joined(flags)}
    labels = {flag: "on" if flag in flags else "off" for flag in FLAGS}
    assert grown(before, after, REQUESTS, outcome="ok", **labels) == n
    assert grown(before, after, REQUESTS) == n
    assert grown(before, after, "phase5_time_to_first_token_seconds_count", **labels) == n

    protocol = "http2" if HTTP2_TRANSPORT in flags else "http1"
    assert grown(before, after, REQUESTS, protocol=protocol) == n
    connections = grown(before, after, "phase5_connections_opened_total", protocol="http2")
    assert connections == (HTTP2_TRANSPORT in flags)
    assert (total(after, "pid_concurrency_limit") < LIMIT) is (ADAPTIVE_GOVERNOR in flags)
    # The first stream of a set may be the one that leaves the prefix for the others.
    reused = [call.cached_tokens() > 0 for call in made[1:]]
    assert all(reused) if TTFT_PIPELINE in flags else not any(reused)
    registered = grown(before, after, "phase5_streams_ended_total", kind="completed")
    assert registered == n
    watched = grown(before, after, "phase5_qos_streams_total")
    assert watched == (registered if QOS_MONITORING in flags else 0)
