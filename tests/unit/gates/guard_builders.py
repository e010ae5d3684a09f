"""Engines, stores and situations for the tests of the guard."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gates.engine_views import EngineView, FlagView, Lease
from gates.guarding.sight import GRACE, Sight
from gates.guarding.situation import Pending, Polled, Situation, StoreView
from gates.ledger import minute_of
from gates.standing import Cause, Standing

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=5)
FLAG, OTHER = "ttft_pipeline", "http2_transport"
URL, SECOND = "http://127.0.0.1:1", "http://127.0.0.1:2"
LEASES = {"canary": 900.0, "early": 900.0, "mid": 1800.0}
SHARES = {"off": 0.0, "canary": 1.0, "early": 10.0, "mid": 50.0, "full": 100.0}


def standing(stage: str = "canary", **more: Any) -> Standing:
    """A flag of the store, since long ago."""
    fields = {
        "stage": stage,
        "enabled": stage != "off",
        "percentage": SHARES.get(stage, 7.0),
        "entered_at": LONG_AGO,
        "epoch": 3,
        **more,
    }
    return Standing(**fields)


def served(percentage: float = 1.0, **more: Any) -> FlagView:
    """A flag of an engine."""
    fields: dict[str, Any] = {
        "enabled": percentage > 0,
        "percentage": percentage,
        "effective": percentage,
        "stage": "canary" if percentage else "off",
        "epoch": 3,
        "braked": bool(more.get("brake")),
        **more,
    }
    return FlagView(**fields)


def view(
    url: str = URL, flags: Mapping[str, FlagView] | None = None, generation: int = 7, **more: Any
) -> EngineView:
    """An engine that answered; its id is the end of its address."""
    fields: dict[str, Any] = {
        "url": url,
        "engine_id": f"e{url[-1]}",
        "ready": True,
        "machine": "linux-x86_64-2cpu",
        "model": "tiny",
        "model_sha256": "m",
        "engine_version": "1",
        "commit": "abc",
        "config_sha256": "def",
        "generation": generation,
        "flags": flags or {FLAG: served(), OTHER: served(0.0)},
        "lease": Lease(expires_at=None, lapsed=False, frozen=False),
        "streams_in_flight": 0,
        **more,
    }
    return EngineView(**fields)


def polled(url: str = URL, **more: Any) -> Polled:
    """An engine at one poll."""
    return Polled(url=url, view=view(url, **more))


def silent(url: str = URL) -> Polled:
    """An engine that did not answer."""
    return Polled(url=url, error="no answer within 3 s")


def store(flags: Mapping[str, Standing] | None = None, generation: int = 7) -> StoreView:
    """What was read of a store: `FLAG` at canary, `OTHER` off."""
    given = flags or {FLAG: standing(), OTHER: standing("off", epoch=1)}
    return StoreView(where="file:store", generation=generation, flags=given)


def sight(flag: str = FLAG, **more: Any) -> Sight:
    """Of a flag whose evidence is sound for two engines."""
    fields: dict[str, Any] = {
        "flag": flag,
        "epoch": 3,
        "entered_at": NOW - GRACE - timedelta(seconds=1),
        "last_valid": minute_of(NOW) - 3,
        "engines": ("e1", "e2"),
        **more,
    }
    return Sight(**fields)


def situation(**more: Any) -> Situation:
    """Two engines at canary as the store has it, and sound evidence."""
    fields: dict[str, Any] = {
        "engines": (polled(URL), polled(SECOND)),
        "store": store(),
        "sights": {FLAG: sight()},
        "leases": LEASES,
        **more,
    }
    return Situation(**fields)


def pending(**more: Any) -> Pending:
    """A rollback of `FLAG` that has just been decided."""
    fields: dict[str, Any] = {
        "id": "r1",
        "cause": Cause.VERDICT,
        "reason": "live_error_rate 5 % > 0.1 %",
        "at": NOW.isoformat(),
        "flags": {FLAG: 3},
        **more,
    }
    return Pending(**fields)


def braked(given: FlagView, brake: str = "b1", cause: str = "manual") -> FlagView:
    """A flag that its engine keeps at 0 % by itself."""
    return replace(given, percentage=0.0, effective=0.0, braked=True, brake=brake, cause=cause)
