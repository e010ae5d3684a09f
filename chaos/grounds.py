"""Makes the ground of an experiment: server, proxies, engine, observer, in this order."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final

from chaos.books import Books
from chaos.errors import ChaosError
from chaos.experiment import Clients, Experiment
from chaos.faults.clock import clock_environment
from chaos.observing import Observer
from chaos.serving import free_port
from chaos.stage import Ground, Stage, Subject, Watch
from chaos.toxiproxy import Proxy, Toxiproxy

#: Until an idle runtime that has served a request says what it holds.
_SAYS_SECONDS: Final = 10.0


def prepare(
    experiment: Experiment,
    stage: Stage,
    *,
    full: bool,
    seed: int,
    books: Books,
    undo: ExitStack,
) -> Ground:
    """Everything that the faults and the clients of an experiment need.

    Raises:
        ChaosError: something of it cannot be had.
    """
    proxied = [clients for clients in experiment.everyone if clients.way == "proxied"]
    server: Toxiproxy | None = None
    if proxied or experiment.linked or experiment.watched:
        server = books.enter(undo, "Toxiproxy", stage.toxiproxy())
    config, link = dict(experiment.config), None
    if server is not None and experiment.linked:
        port = free_port()
        link = books.enter(undo, "proxy link", server.proxy("link", f"127.0.0.1:{port}"))
        over = {"backend": "tls", "link_port": port, "link_dial": link.listen}
        config = _merged(config, {"runtime": over})
    if experiment.headroom_bytes is not None:
        budget = _idle_bytes(experiment, stage, seed) + experiment.headroom_bytes
        config = _merged(config, {"runtime": {"memory_bytes": budget}})
    disk = books.enter(undo, "disk", stage.disk()) if experiment.small_disk else None
    if experiment.watched or disk:
        config = _merged(config, stage.managed(watched=bool(experiment.watched)))
    environment = clock_environment(stage.folder) if experiment.clock else {}
    engine = books.enter(undo, "engine", stage.engine(experiment.flags, config, environment, disk))
    proxies: dict[str, Proxy] = {}
    for clients in proxied:
        if server is not None:
            name, upstream = clients.flow.name, base_of(engine, clients).rpartition("/")[2]
            proxies[name] = books.enter(undo, f"proxy {name}", server.proxy(name, upstream))
    watched = None
    if server is not None and experiment.watched:
        watched = _watched(experiment, stage, engine, server, books=books, undo=undo)
    observer = undo.enter_context(_observing(engine))
    return Ground(
        stage=stage,
        engine=engine,
        observer=observer,
        proxies=proxies,
        link=link,
        watched=watched,
        disk=disk,
        seed=seed,
        long=full,
    )


def _watched(
    experiment: Experiment,
    stage: Stage,
    engine: Subject,
    server: Toxiproxy,
    *,
    books: Books,
    undo: ExitStack,
) -> Watch:
    """A Prometheus and a guard, each of which hears of its own through a proxy."""
    host = engine.url.rpartition("/")[2]
    scrapes = books.enter(undo, "proxy scrapes", server.proxy("scrapes", host))
    prometheus = books.enter(
        undo, "Prometheus", stage.prometheus(engine, scrapes.listen, experiment.watched)
    )
    upstream = prometheus.rpartition("/")[2]
    queries = books.enter(undo, "proxy queries", server.proxy("queries", upstream))
    guard = books.enter(undo, "guard", stage.guard(engine, queries.url()))
    return Watch(prometheus=prometheus, queries=queries, scrapes=scrapes, guard=guard)


def base_of(engine: Subject, clients: Clients) -> str:
    """The base URL of the port that clients speak to.

    Raises:
        ChaosError: the engine has no such port.
    """
    if clients.flow.protocol == "http1":
        return engine.url
    if engine.h2_url is None:
        raise ChaosError(f"{engine.url} has no port for HTTP/2; allowed: flag http2_transport on")
    return engine.h2_url


@contextmanager
def _observing(engine: Subject) -> Iterator[Observer]:
    observer = Observer(engine.url)
    observer.start()
    try:
        yield observer
    finally:
        observer.stop()


def _idle_bytes(experiment: Experiment, stage: Stage, seed: int) -> int:
    """What a runtime holds that has served a request."""
    one = replace(experiment.clients[0].flow, rate=0.0, streams=1)
    with stage.engine(experiment.flags, {}, {}) as engine, _observing(engine) as observer:
        stage.traffic.start(one, url=engine.url, model=engine.model, seconds=1, seed=seed).wait()
        look = observer.first(
            lambda look: look.status.get("memory", {}).get("bytes", 0) > 0,
            _SAYS_SECONDS,
            "the runtime says what it holds",
        )
    return int(look.status["memory"]["bytes"])


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        former = merged.get(name)
        if isinstance(former, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(former, value)
        else:
            merged[name] = value
    return merged
