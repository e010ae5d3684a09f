"""A running engine as a test sees it: its address, who it is, and what can be asked of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gates.evidence import EngineIdentity
from pytest_phase5.markers import EngineSpec

if TYPE_CHECKING:
    import httpx

#: How long one answer may take in `Engine.chat` and friends.
_ANSWER_SECONDS: Final = 120.0

#: What is not known about an engine that does not tell.
UNKNOWN: Final = "unknown"


class EngineError(Exception):
    """An engine that did not start, serve or stop as it must. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEngine:
    """An engine that somebody else started: its URL, and how it is stopped, if at all."""

    url: str
    stop: Callable[[], None] | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: its text, and what the engine said about it; what it did not say is None."""

    text: str
    flags: str | None = None  #: the `X-Phase5-Flags` of the stream
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A running engine.

    `url` and `h2_url` are the bases of its two ports; `pid` is None for an engine that was
    not started here; `log` is where its output goes.
    """

    url: str
    flag_set: str
    identity: EngineIdentity
    h2_url: str | None = None
    pid: int | None = None
    log: Path | None = None

    def status(self) -> dict[str, Any]:
        """The answer of `GET /v1/status`."""
        answer: dict[str, Any] = self._get("/v1/status").json()
        return answer

    def metrics(self) -> str:
        """The answer of `GET /metrics`, in the text format of Prometheus."""
        return self._get("/metrics").text

    def chat(self, text: str, **params: Any) -> str:
        """Ask one question and return the answer's text; see `ask`."""
        return self.ask(text, **params).text

    def ask(self, text: str, **params: Any) -> Answer:
        """Ask one question.

        `params` are further fields of the request, such as `max_tokens=16`.

        Raises:
            EngineError: when the answer is not a 200.
        """
        import httpx

        body = {
            "model": self.identity.model,
            "messages": [{"role": "user", "content": text}],
            **params,
        }
        try:
            url = f"{self.url}/v1/chat/completions"
            answer = httpx.post(url, json=body, timeout=_ANSWER_SECONDS, trust_env=False)
        except httpx.HTTPError as error:
            raise EngineError(f"{self.url} (flags {self.flag_set}): {error!r}") from error
        self._require_ok(answer, "POST /v1/chat/completions")
        document = answer.json()
        choice, usage = document["choices"][0], document.get("usage") or {}
        return Answer(
            text=choice["message"]["content"],
            flags=answer.headers.get("X-Phase5-Flags"),
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=usage.get("prompt_tokens"),
            output_tokens=usage.get("completion_tokens"),
        )

    def _get(self, path: str) -> "httpx.Response":
        answer = _get(self.url + path)
        self._require_ok(answer, f"GET {path}")
        return answer

    def _require_ok(self, answer: "httpx.Response", what: str) -> None:
        if answer.status_code != 200:  # noqa: PLR2004 - HTTP's own word for it
            raise EngineError(
                f"{what} at {self.url} (flags {self.flag_set}) answered {answer.status_code}: "
                f"{answer.text[:200]}"
            )


def _get(url: str) -> "httpx.Response":
    import httpx

    try:
        # Our engines are local: a proxy of the environment has no business here.
        return httpx.get(url, timeout=_ANSWER_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        raise EngineError(f"GET {url}: {error!r}") from error


def identify(url: str, spec: EngineSpec, *, started_here: bool) -> tuple[EngineIdentity, str]:
    """Ask an engine who it is; returns that and the URL of its second port, or an empty text.

    An engine without `/v1/status` serves `off` and is otherwise unknown, which the judge
    does not accept for what needs a model or a build.

    Raises:
        EngineError: it serves other flags than the test asks for.
    """
    status = _status(url)
    served = _served_flags(status) if status.get("flags") else "off"
    if served != spec.flag_set:
        how = "it was started with those flags" if started_here else "a fixed engine"
        raise EngineError(f"{url} serves flags {served}, asked for {spec.flag_set} ({how})")
    model = status.get("model", {})
    identity = EngineIdentity(
        flag_set=served,
        model=model.get("name", UNKNOWN),
        model_sha256=model.get("sha256", UNKNOWN),
        engine_version=status.get("engine_version", UNKNOWN),
        commit=status.get("commit", UNKNOWN),
        config_sha256=status.get("config_sha256", UNKNOWN),
    )
    return identity, _second_port(status)


def served_flags(url: str) -> str:
    """The flag set that an engine serves; what is neither on nor off shows with its share.

    Raises:
        EngineError: it does not answer.
    """
    status = _status(url)
    return _served_flags(status) if status.get("flags") else "off"


def _status(url: str) -> dict[str, Any]:
    answer = _get(f"{url}/v1/status")
    return answer.json() if answer.status_code == 200 else {}  # noqa: PLR2004 - as above


def _served_flags(status: dict[str, Any]) -> str:
    """The flags at 100 %; one in between belongs to no flag set, so it shows as such."""
    from engine.core.flags import flag_set_name

    shares = {name: flag.get("effective", 0) for name, flag in status["flags"].items()}
    partial = [f"{name} at {share:g} %" for name, share in shares.items() if 0 < share < 100]  # noqa: PLR2004 - percent
    return ", ".join(partial) or flag_set_name(name for name, share in shares.items() if share)


def _second_port(status: dict[str, Any]) -> str:
    endpoints = status.get("endpoints")
    url = endpoints.get("http2") if isinstance(endpoints, dict) else None
    return url if isinstance(url, str) else ""
