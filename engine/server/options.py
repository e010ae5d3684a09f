"""The command line of `phase5 serve`, resolved against the configuration."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from engine.config import packaged
from engine.core.flags import FlagSet
from engine.runtime.models import ModelFiles, resolve_model
from engine.server.drafts import resolve_draft
from engine.server.keys import Keys, KeysError
from engine.server.settings import Settings

GivenT = TypeVar("GivenT")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The command line of `phase5 serve`; None leaves it to the configuration.

    Attributes:
        model: a built-in name, a directory, or a Hugging Face id.
        config: a runtime.yaml; None searches `./config`, then the packaged one.
        host: address to listen on.
        port: 0 takes a free one.
        h2_port: of the second port; 0 takes a free one.
        flags: at 100 %, all others at 0 %, whatever the configuration says.
        tls_cert: certificate chain for the second port.
        tls_key: its key.
    """

    model: str | None = None
    config: Path | None = None
    host: str | None = None
    port: int | None = None
    h2_port: int | None = None
    flags: FlagSet | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None


class UsageError(ValueError):
    """Options that do not fit together. The message says what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Options and configuration resolved: nothing is left to look up."""

    settings: Settings
    model: ModelFiles
    draft: ModelFiles | None
    host: str
    port: int
    h2_port: int
    tls: tuple[Path, Path] | None
    client_ca: Path | None
    keys: Keys


def resolve(options: ServeOptions) -> Plan:
    """Look up everything that the options name. May build or fetch a model: blocks.

    Raises:
        ConfigError, ModelError, UsageError: it cannot serve as asked.
    """
    settings = Settings.read(_config_path(options.config), options.flags)
    server = settings.config.server
    # Before the model: it may take a download to resolve.
    tls, keys = _tls(options), _keys()
    client_ca = _client_ca(server.tls_client_ca, tls=tls is not None)
    model = resolve_model(_given(options.model, settings.config.runtime.model))
    return Plan(
        settings=settings,
        model=model,
        draft=resolve_draft(settings.config.runtime.speculation.draft_model, model),
        host=_given(options.host, server.host),
        port=_given(options.port, server.port),
        h2_port=_given(options.h2_port, server.h2_port),
        tls=tls,
        client_ca=client_ca,
        keys=keys,
    )


def _given(option: GivenT | None, configured: GivenT) -> GivenT:
    return configured if option is None else option


def _config_path(given: Path | None) -> Path:
    """The option, else `./config/runtime.yaml` when it is there, else the packaged one."""
    if given is not None:
        return given
    here = Path("config/runtime.yaml")
    return here if here.is_file() else packaged("runtime.yaml")


def _keys() -> Keys:
    try:
        return Keys.from_environment()
    except KeysError as error:
        raise UsageError(str(error)) from error


def _tls(options: ServeOptions) -> tuple[Path, Path] | None:
    cert, key = options.tls_cert, options.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("--tls-cert and --tls-key go together; only one was given")
    for option, path in (("--tls-cert", cert), ("--tls-key", key)):
        if not path.is_file():
            raise UsageError(f"{option} {path}: no such file; expected PEM")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except OSError as error:
        raise UsageError(
            f"--tls-cert {cert}, --tls-key {key}: no such pair in PEM: {error}"
        ) from error
    return cert, key


def _client_ca(given: str | None, *, tls: bool) -> Path | None:
    if given is None:
        return None
    path = Path(given)
    if not tls:
        # Without it clients would come unasked, which is not what was configured.
        raise UsageError(f"server.tls_client_ca {path}: needs --tls-cert and --tls-key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except OSError as error:
        raise UsageError(f"server.tls_client_ca {path}: no certificates in PEM: {error}") from error
    return path
