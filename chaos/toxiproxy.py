"""A Toxiproxy server, driven so that every fault is known to be in force.

The server takes a misspelt attribute in silence and leaves its default in force, and the
client library waits for ever, hears no error but three, and has one server for the whole
process. So: each answer has a deadline and is checked, each toxic and each proxy is read back
and compared with what was asked, and each server has a consumer of its own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from os import getpid
from typing import Any, Final
from urllib.parse import urlsplit

from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from chaos.errors import FaultError

#: On loopback an answer takes a millisecond.
ANSWER_SECONDS: Final = 5.0

#: What `requests` would otherwise take from the environment: our servers are local.
_DIRECT: Final[Mapping[str, None]] = {"http": None, "all": None}

#: Proxies of this process, by name: several may share a server.
_NUMBERS: Final = count(1)


class ToxiproxyError(FaultError):
    """The server did not answer, refused, or has something else in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxic:
    """A fault of connections. Attributes are whole numbers, as the server has them.

    Raises:
        FaultError: a toxicity outside 0 to 1.
    """

    type: str
    attributes: Mapping[str, int] = field(default_factory=dict)
    stream: str = "downstream"
    toxicity: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what the server would take and nobody can mean."""
        if not 0 <= self.toxicity <= 1:
            raise FaultError(f"toxic {self.type}: toxicity {self.toxicity:g}; allowed: 0 to 1")

    @property
    def name(self) -> str:
        """What the server is to call it."""
        return f"{self.type}_{self.stream}"

    def document(self) -> dict[str, Any]:
        """As the server takes it."""
        return {
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
            "attributes": dict(self.attributes),
        }


class Toxiproxy:
    """One server, by its URL.

    Raises:
        ToxiproxyError: the address is not http://HOST:PORT.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise ToxiproxyError(f"Toxiproxy at {url!r}; allowed: http://HOST:PORT")
        self.url = url.rstrip("/")
        here = {"host": parts.hostname, "port": parts.port}
        self._api: Any = type("Consumer", (APIConsumer,), here)

    def version(self) -> str:
        """What the server says it is."""
        return str(self.ask("get", "/version").get("version", ""))

    def proxies(self) -> dict[str, Any]:
        """What it forwards, by name."""
        return self.ask("get", "/proxies")

    @contextmanager
    def proxy(self, what: str, upstream: str) -> Iterator["Proxy"]:
        """Forward to HOST:PORT from a free port, for the length of a block.

        Raises:
            ToxiproxyError: the server has not done so.
        """
        name = f"phase5-{getpid()}-{next(_NUMBERS)}-{what}"
        asked = {"name": name, "upstream": upstream, "listen": "127.0.0.1:0", "enabled": True}
        made = self.ask("post", "/proxies", json=asked)
        try:
            proxy = Proxy(self, name, upstream, str(made.get("listen")))
            proxy.require_enabled(on=True)
            yield proxy
        finally:
            self.ask("delete", f"/proxies/{name}")

    def ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """One call of its API; an answer without a body is an empty object.

        Raises:
            ToxiproxyError: no answer in time, or one that is no success.
        """
        call = getattr(self._api, method)
        where = f"Toxiproxy, {method.upper()} {self.url}{path}"
        try:
            answer = call(path, timeout=ANSWER_SECONDS, proxies=dict(_DIRECT), **more)
        except (InvalidToxic, NotFound, ProxyExists) as error:
            raise ToxiproxyError(f"{where}: {_said(error)}") from None
        except OSError as error:  # all of `requests`' are such
            raise ToxiproxyError(f"{where}: {type(error).__name__}") from None
        if not answer.ok:
            raise ToxiproxyError(f"{where}: answered {answer.status_code}: {answer.text[:200]}")
        document: dict[str, Any] = answer.json() if answer.content else {}
        return document


@dataclass(frozen=True, slots=True)
class Proxy:
    """A port of the server's that forwards to another."""

    server: Toxiproxy
    name: str
    upstream: str
    listen: str  #: HOST:PORT

    def url(self, scheme: str = "http") -> str:
        """The base URL of what is behind it."""
        return f"{scheme}://{self.listen}"

    def add(self, toxic: Toxic) -> dict[str, Any]:
        """Put a toxic in force; returns what the server then says is in force.

        Raises:
            ToxiproxyError: that is not what was asked; the toxic is removed again.
        """
        self.server.ask("post", f"{self._path}/toxics", json=toxic.document())
        found = self.toxic(toxic.name)
        wrong = list(_differences(toxic, found))
        if wrong:
            self.remove(toxic.name)
            raise ToxiproxyError(f"toxic {toxic.type} on {self.name}: {'; '.join(wrong)}")
        return found

    def toxic(self, name: str) -> dict[str, Any]:
        """What is in force under a name."""
        return self.server.ask("get", f"{self._path}/toxics/{name}")

    def remove(self, name: str) -> None:
        """End a toxic, and see that it is gone.

        Raises:
            ToxiproxyError: it is not, or the server does not say.
        """
        self.server.ask("delete", f"{self._path}/toxics/{name}")
        left = self.server.ask("get", self._path).get("toxics") or []
        if any(toxic["name"] == name for toxic in left):
            raise ToxiproxyError(f"toxic {name} on {self.name} was removed and is still in force")

    def enable(self, *, on: bool) -> dict[str, Any]:
        """Forward, or refuse connections and drop those that stand.

        Raises:
            ToxiproxyError: the server says otherwise.
        """
        self.server.ask("post", self._path, json={"enabled": on})
        return self.require_enabled(on=on)

    def require_enabled(self, *, on: bool) -> dict[str, Any]:
        """Read back whether it forwards, and where.

        Raises:
            ToxiproxyError: not as asked.
        """
        found = self.server.ask("get", self._path)
        if (found.get("enabled"), found.get("upstream")) != (on, self.upstream):
            raise ToxiproxyError(
                f"proxy {self.name}: enabled {found.get('enabled')} to {found.get('upstream')}, "
                f"asked for {on} to {self.upstream}"
            )
        return {name: found[name] for name in ("listen", "upstream", "enabled")}

    @property
    def _path(self) -> str:
        return f"/proxies/{self.name}"


def _differences(asked: Toxic, found: Mapping[str, Any]) -> Iterator[str]:
    for name in ("type", "stream", "toxicity"):
        if found.get(name) != getattr(asked, name):
            yield f"{name} is {found.get(name)!r}, asked for {getattr(asked, name)!r}"
    has = found.get("attributes") or {}
    for name, value in asked.attributes.items():
        if name not in has:
            allowed = ", ".join(sorted(has)) or "none"
            yield f"unknown attribute {name!r}; allowed: {allowed}"
        elif has[name] != value:
            yield f"{name} is {has[name]!r}, asked for {value!r}"


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace").strip() if isinstance(said, bytes) else str(said)
