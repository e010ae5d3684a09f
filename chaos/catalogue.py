"""The experiments. Numbers of the short form are for `tiny` on two cores."""

from collections.abc import Mapping
from typing import Final

from chaos.errors import ChaosError
from chaos.experiment import Clients, Crowd, Expectation, Experiment, Fault, Spans, Steady
from gates.evidence import Flow

#: Ordinary service: enough requests that a window of half a second is never empty.
_STEADY: Final = Clients(flow=Flow(name="steady", rate=10, tokens=8))

#: The same for experiments that mostly wait: their windows are longer.
_QUIET: Final = Clients(flow=Flow(name="steady", rate=4, tokens=4))
_LONG_WINDOWS: Final = Steady(window_seconds=1.0)

#: A baseline of twenty requests; recovery needs three windows, of five that are watched.
_SHORT: Final = Spans(before=2, hold=1, after=2.5)
_FULL: Final = Spans(before=30, hold=30, after=30)

#: The baseline of the requirements for streams, in the middle of answers of some seconds.
_FIFTY: Final = Crowd(
    clients=Clients(flow=Flow(name="streams", streams=50, tokens=300, timeout=120)), at_token=20
)
_FEW: Final = Crowd(
    clients=Clients(flow=Flow(name="streams", streams=8, tokens=1500, timeout=120)), at_token=20
)

_NO_SPACE: Final = {"system": "No space left on device"}

_PROXIED: Final = Clients(flow=Flow(name="proxied", rate=10, tokens=8), way="proxied")

_ALL: Final = (
    Experiment(
        name="runtime-kill",
        title="the runtime is killed in the middle of 50 streams, and no client notices",
        description="SIGKILL at token 20; streams are replayed in the next process",
        fault=Fault(kind="kill"),
        clients=(_STEADY,),
        crowd=_FIFTY,
        # Replays go first: newcomers wait for seconds behind them, and must be seen to be well.
        short=Spans(before=2, hold=0, after=6),
        full=Spans(before=30, hold=0, after=30),
        expects=(
            Expectation(check="all_caught_end_whole"),
            Expectation(check="errors_unchanged"),
            Expectation(check="restarts", arguments={"exactly": 1}),
            Expectation(check="cleared_up"),
        ),
        compares=True,
    ),
    Experiment(
        name="network-latency",
        title="the network is 300 ms slower, and nothing but that",
        description="Toxiproxy delays what the engine sends, on HTTP/1.1 and on HTTP/2",
        fault=Fault(kind="delay", arguments={"latency": 300, "jitter": 50}),
        clients=(
            Clients(flow=Flow(name="http1", rate=10, tokens=8), way="proxied"),
            Clients(flow=Flow(name="http2", rate=10, tokens=8, protocol="http2"), way="proxied"),
        ),
        short=Spans(before=3, hold=3, after=2.5),
        full=_FULL,
        expects=(
            Expectation(check="errors_unchanged"),
            # Its most, and as much again for a second trip of a connection that begins.
            Expectation(check="ttft_shifted", arguments={"most": 0.7}),
        ),
        flags="all",
    ),
    Experiment(
        name="memory-pressure",
        title="long contexts ask for more memory than there is; the engine sheds and recovers",
        description="streams of 500 words against a budget of 16 MiB beyond an idle runtime",
        fault=Fault(
            kind="memory", arguments={"rate": 8, "words": 500, "tokens": 64, "until": "shed"}
        ),
        clients=(_STEADY,),
        short=Spans(before=2, hold=0, after=2.5),
        full=Spans(before=30, hold=60, after=30),
        expects=(
            Expectation(check="shed_politely"),
            Expectation(check="measures_taken", arguments={"names": ["evict", "shed"]}),
            Expectation(check="restarts", arguments={"exactly": 0}),
        ),
        headroom_bytes=16 * 1024 * 1024,
        # Few may wait: longer than a client's patience would be no memory's doing.
        config={"admission": {"limit": 4, "queue": 16}},
        flags="ttft_pipeline",
    ),
    Experiment(
        name="remediation-storm",
        title="triggers of many clients at once and a loop; one remedy, its name, one brake, calm",
        description="bursts violate every policy, calm eases the remedy; then a rush of rollbacks",
        fault=Fault(
            kind="storm",
            arguments={
                "clients": 3,
                "rate": 1,
                "tokens": 1200,
                "policies": 5,
                "rollbacks": 32,
                "flag": "ttft_pipeline",
            },
        ),
        clients=(Clients(flow=Flow(name="steady", rate=10, tokens=4)),),
        short=Spans(before=2, hold=1, after=2.5),
        full=Spans(before=30, hold=30, after=30),
        expects=(
            Expectation(check="storm_is_held"),
            Expectation(check="errors_unchanged"),
        ),
        config={
            "qos": {
                "evaluation_seconds": 0.25,
                "window_seconds": 2,
                "min_samples": 5,
                "policies": [
                    {
                        "name": f"storm-{number}",
                        "metric": "latency_p99_ms",
                        "max": 500 + number,
                        "remediation": {"action": "throttle", "factor": 0.7},
                    }
                    for number in range(5)
                ],
                "remediation": {
                    "cooldown_seconds": 0.5,
                    "settle_seconds": 1,
                    "loop_moves": 3,
                    "breaker_seconds": 60,
                    "max_per_window": 20,
                },
            }
        },
        flags="ttft_pipeline+qos_monitoring",
    ),
    Experiment(
        name="runtime-stall",
        title="the runtime stands still in the middle of 50 streams, and no client loses a token",
        description="SIGSTOP at token 20; the supervisor gives it up and replays",
        fault=Fault(kind="stop"),
        clients=(_STEADY,),
        crowd=_FIFTY,
        short=Spans(before=2, hold=0, after=2.5),
        full=Spans(before=30, hold=0, after=30),
        expects=(
            Expectation(check="all_caught_end_whole"),
            Expectation(check="errors_unchanged"),
            Expectation(check="restarts", arguments={"exactly": 1}),
            Expectation(check="cleared_up"),
        ),
    ),
    Experiment(
        name="reset-peer",
        title="clients' connections are reset; others notice nothing, and nothing is left",
        description="Toxiproxy resets connections on one way while others go straight",
        fault=Fault(kind="cut"),
        clients=(_STEADY, Clients(flow=_PROXIED.flow, way="proxied", harmed=True)),
        short=Spans(before=2, hold=2, after=2.5),
        full=_FULL,
        expects=(Expectation(check="others_unharmed"), Expectation(check="cleared_up")),
    ),
    Experiment(
        name="slow-client",
        title="some clients hardly read; others notice nothing",
        description="16 KB/s for clients of long answers, beside ordinary ones",
        fault=Fault(kind="throttle", arguments={"rate": 16}),
        clients=(
            _STEADY,
            Clients(flow=Flow(name="slow", rate=2, tokens=64), way="proxied", harmed=True),
        ),
        short=Spans(before=4, hold=3, after=2.5),
        full=_FULL,
        expects=(
            Expectation(check="others_unharmed"),
            Expectation(check="errors_unchanged"),
            Expectation(check="cleared_up"),
        ),
    ),
    Experiment(
        name="bandwidth",
        title="everybody's network is narrow; answers come late and whole",
        description="8 KB/s between all clients and the engine",
        fault=Fault(kind="throttle", arguments={"rate": 8}),
        clients=(Clients(flow=Flow(name="proxied", rate=5, tokens=16), way="proxied"),),
        short=Spans(before=2, hold=3, after=2.5),
        full=_FULL,
        expects=(Expectation(check="errors_unchanged"), Expectation(check="cleared_up")),
    ),
    Experiment(
        name="partition",
        title="front end and runtime cannot hear each other; streams are replayed, nothing is lost",
        description="Toxiproxy swallows everything between them, both ways",
        fault=Fault(kind="partition"),
        clients=(_STEADY,),
        crowd=_FEW,
        short=Spans(before=2, hold=0, after=2.5),
        full=Spans(before=30, hold=10, after=30),
        expects=(
            Expectation(check="all_caught_end_whole"),
            Expectation(check="errors_unchanged"),
            Expectation(check="restarts"),
            Expectation(check="cleared_up"),
        ),
        linked=True,
    ),
    Experiment(
        name="disk-full",
        title="not a byte is free; verdict, store and brakes stay whole, and a rollback holds",
        description="a disk of its own, full, below the engine's files, a store and a judge",
        linux=True,
        fault=Fault(kind="full_disk"),
        clients=(_STEADY,),
        short=_SHORT,
        full=_FULL,
        expects=(
            Expectation(check="errors_unchanged"),
            Expectation(check="answers_throughout"),
            Expectation(check="restarts", arguments={"exactly": 0}),
            Expectation(check="verdict_stays_whole", arguments=_NO_SPACE),
            Expectation(check="store_stays_whole", arguments=_NO_SPACE),
            Expectation(check="brake_holds_in_memory", arguments=_NO_SPACE),
        ),
        # What serves is the store's to say: half of the traffic of one flag.
        flags="",
        small_disk=True,
    ),
    Experiment(
        name="disk-full-by-limit",
        title="no file grows by a byte; service goes on, and the last verdict stays whole",
        description="a limit on file sizes: the form of disk-full for whom no disk is given",
        linux=True,
        fault=Fault(kind="file_size"),
        clients=(_STEADY,),
        short=_SHORT,
        full=_FULL,
        expects=(
            Expectation(check="errors_unchanged"),
            Expectation(check="answers_throughout"),
            Expectation(check="verdict_stays_whole", arguments={"system": "File too large"}),
        ),
    ),
    Experiment(
        name="descriptor-exhaustion",
        title="there is no descriptor for another connection; streams go on, and later all is well",
        description="the front end's limit is set to what it has open",
        linux=True,
        fault=Fault(kind="descriptors"),
        clients=(
            _STEADY,
            Clients(flow=Flow(name="newcomers", rate=10, tokens=64), harmed=True),
        ),
        crowd=_FEW,
        short=Spans(before=2, hold=2, after=2.5),
        full=_FULL,
        expects=(Expectation(check="all_caught_end_whole"), Expectation(check="cleared_up")),
    ),
    Experiment(
        name="rollback-during-chaos",
        title="every flag is rolled back while the runtime is dead; no stream is lost",
        description="SIGKILL at token 20, and a rollback before the next process serves",
        fault=Fault(kind="rollback_amid_kill"),
        clients=(_STEADY,),
        crowd=_FIFTY,
        short=Spans(before=2, hold=0, after=2.5),
        full=Spans(before=30, hold=0, after=30),
        expects=(
            Expectation(check="all_caught_end_whole"),
            Expectation(check="errors_unchanged"),
            Expectation(check="restarts", arguments={"exactly": 1}),
            Expectation(check="rolled_back"),
            Expectation(check="cleared_up"),
        ),
        # A configuration of its own: the brakes are kept beside it.
        config={"admission": {"limit": 50}},
    ),
    Experiment(
        name="guard-loses-prometheus",
        title="the guard's Prometheus is gone; it reads the engines, and takes nothing back",
        description="Toxiproxy swallows questions and scrapes while a minute falls due",
        fault=Fault(kind="lose_prometheus"),
        clients=(_QUIET,),
        steady=_LONG_WINDOWS,
        short=Spans(before=2, hold=1, after=6),
        # A whole minute closes meanwhile: two edges, up to 62 s, and ten for no answer.
        full=Spans(before=30, hold=195, after=30),
        expects=(
            Expectation(check="guard_keeps_watch", arguments={"between": 195}),
            Expectation(check="errors_unchanged"),
            Expectation(check="restarts", arguments={"exactly": 0}),
        ),
        # What serves is the store's to say: half of the traffic of one flag.
        flags="",
        watched="well",
    ),
    Experiment(
        name="guard-goes-blind",
        title="the guard sees nothing for too long; the engine brakes itself, and stays so",
        description="what the guard knows grows too old while Prometheus hears and says nothing",
        fault=Fault(kind="blind_guard"),
        clients=(_QUIET,),
        steady=_LONG_WINDOWS,
        short=Spans(before=2, hold=0, after=6),
        # What is known is too old some time after the beginning, however long a baseline takes.
        full=Spans(before=2, hold=0, after=30),
        expects=(
            Expectation(check="guard_brakes_when_blind"),
            Expectation(check="errors_unchanged"),
            Expectation(check="restarts", arguments={"exactly": 0}),
        ),
        flags="",
        watched="barely",
    ),
    Experiment(
        name="clock-jump",
        title="the wall clock jumps an hour ahead and back; no stream notices",
        description="libfaketime moves the engine's wall clock; its monotonic one goes on",
        linux=True,
        fault=Fault(kind="clock", arguments={"seconds": 3600}),
        clients=(_STEADY,),
        crowd=_FEW,
        short=_SHORT,
        full=_FULL,
        expects=(
            Expectation(check="all_caught_end_whole"),
            Expectation(check="errors_unchanged"),
            Expectation(check="restarts", arguments={"exactly": 0}),
        ),
        clock=True,
    ),
)

EXPERIMENTS: Final[Mapping[str, Experiment]] = {each.name: each for each in _ALL}


def experiment_named(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        ChaosError: there is none; it names those there are.
    """
    if name not in EXPERIMENTS:
        raise ChaosError(f"experiment {name!r}; allowed: {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
