"""Which engines there are: those of the configuration, those given, and those known last.

A rollback needs them when the configuration cannot be read any more, so every command that read
it well leaves them in `CONFIGURATION-FILE.state/engines.json`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from engine.core.flags import FLAGS
from gates.durable import write_file

ENGINES_FILE: Final = "engines.json"

#: Where a project's configuration is looked for when none is named.
_PROJECT: Final = Path("config/runtime.yaml")


@dataclass(frozen=True, slots=True)
class Known:
    """The engines to act on.

    Attributes:
        urls: their bases.
        ca: a PEM file of the authorities to trust; None trusts the usual ones.
        doubt: why there may be others; empty when there may not.
    """

    urls: tuple[str, ...]
    ca: Path | None = None
    doubt: str = ""


def config_in_use(given: Path | None) -> Path:
    """The option, else `./config/runtime.yaml` when it is there, else the packaged one."""
    if given is not None:
        return given
    if _PROJECT.exists():
        return _PROJECT
    from engine.config import packaged

    return packaged("runtime.yaml")


def state_folder(config: Path) -> Path:
    """What is kept for a configuration beside it: never part of it."""
    return config.with_name(f"{config.name}.state")


def known_engines(config: Path, given: Iterable[str]) -> Known:
    """The engines of a configuration, whether or not the rest of it can serve, and those given.

    Where the file names none, or is no YAML, the last known ones take their place.
    """
    section, doubt = _section(config)
    if not _urls(section):
        section = {**_remembered(config), **({"ca": section["ca"]} if section.get("ca") else {})}
    ca = section.get("ca")
    return Known(
        urls=tuple(dict.fromkeys([*given, *_urls(section)])),
        ca=Path(ca) if isinstance(ca, str) else None,
        doubt=doubt,
    )


def remember(config: Path, urls: Sequence[str], ca: str | None) -> None:
    """Keep what a configuration that was read well says of the engines. Atomic, and durable.

    Raises:
        OSError: it cannot be written.
    """
    section = {"engines": list(urls), "ca": ca}
    if not urls or _remembered(config) == section:
        return
    folder = state_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / ENGINES_FILE, json.dumps(section).encode())


def flag_names(given: Iterable[str]) -> tuple[str, ...]:
    """Each flag that was named, once.

    Raises:
        ValueError: one of them is no flag; the message says what is allowed.
    """
    names = tuple(dict.fromkeys(given))
    for name in names:
        if name not in FLAGS:
            raise ValueError(f"unknown flag {name!r}; allowed: {', '.join(FLAGS)}")
    return names


def base_url(text: str) -> str:
    """The base of an engine, without a slash at its end.

    Raises:
        ValueError: not such a URL; the message says what is allowed.
    """
    if not _is_base(text):
        raise ValueError(f"engine {_without_user(text)!r}; allowed: http(s)://HOST[:PORT]")
    return text.rstrip("/")


def _is_base(text: str) -> bool:
    try:
        parts = urlsplit(text)
        served = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(served) and not (parts.query or parts.fragment or "@" in parts.netloc)


def _section(config: Path) -> tuple[dict[str, Any], str]:
    """Only YAML, not a valid configuration: a mistake elsewhere in it must not cost an engine."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(config.read_text(encoding="utf-8"), loader)  # noqa: S506 - safe ones
    except OSError as error:
        return {}, f"{config}: cannot be read: {error.strerror}"
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        return {}, f"{config}: not YAML: {' '.join(str(error).split())}"
    return _mapping(_mapping(document).get("rollout")), ""


def _remembered(config: Path) -> dict[str, Any]:
    """Nothing when there is no such file; it is written only as a whole."""
    try:
        text = (state_folder(config) / ENGINES_FILE).read_text(encoding="utf-8")
        return _mapping(json.loads(text))
    except (OSError, ValueError):
        return {}


def _mapping(given: Any) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _urls(section: Mapping[str, Any]) -> list[str]:
    engines = section.get("engines")
    if not isinstance(engines, list):
        return []
    return [url.rstrip("/") for url in engines if isinstance(url, str)]


def _without_user(text: str) -> str:
    """What stands before an @ may be a password."""
    return text.rpartition("@")[2]
