from typing import Any

import pytest

from engine.server.errors import ApiError
from engine.server.keys import Keys, KeysError
from engine.server.options import ServeOptions, UsageError, resolve

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Where?"}]}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "Where?"}


def scope(authorization: str | None, address: str = "192.0.2.7") -> dict[str, Any]:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return {"type": "http", "headers": headers, "client": (address, 5)}


@pytest.fixture
def guarded(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PHASE5_API_KEYS", "first, second\nthird\n")
    return make_bench()


@pytest.mark.parametrize("key", ["first", "second", "third"])
def test_each_key_opens_the_generating_routes(guarded: Any, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"}
    assert guarded.post(**CHAT, headers=headers).status_code == 200
    assert guarded.post("/v1/completions", **TEXT, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer fourth"},
        {"authorization": "Bearer first, second"},
        {"authorization": "Basic first"},
        {"authorization": "first"},
        {"authorization": "Bearer fir"},
    ],
)
def test_anything_else_does_not(guarded: Any, headers: dict[str, str]) -> None:
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)):
        answer = guarded.post(path, **body, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert guarded.get("/v1/models").status_code == 401
    assert guarded.runtime.submitted == []
    assert guarded.metric("phase5_requests_total", outcome="rejected") == 2


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/status", "/openapi.json"])
def test_what_watches_the_engine_needs_no_key(guarded: Any, path: str) -> None:
    assert guarded.get(path).status_code == 200


def test_the_scheme_is_read_in_any_case() -> None:
    assert Keys(["first"]).tenant(scope("bearer first")) == Keys(["first"]).tenant(
        scope("Bearer first")
    )


def test_a_tenant_is_known_by_the_key_and_does_not_tell_it() -> None:
    keys = Keys(["first", "second"])
    first, second = (keys.tenant(scope(f"Bearer {key}")) for key in ("first", "second"))
    assert first != second
    assert first == keys.tenant(scope("Bearer first", "198.51.100.1"))
    assert "first" not in first


def test_without_keys_a_tenant_is_an_address() -> None:
    assert Keys([]).tenant(scope("Bearer anything")) == "192.0.2.7"


def test_bytes_that_are_no_ascii_are_compared_as_they_are() -> None:
    keys = Keys(["schlüssel"])
    assert keys.tenant(scope("Bearer schl\xc3\xbcssel"))
    with pytest.raises(ApiError):
        keys.tenant(scope("Bearer schl\xfcssel"))


@pytest.mark.parametrize("given", ["", " ", ",", "\n , \n"])
def test_an_engine_that_is_meant_to_be_guarded_is_never_open(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("PHASE5_API_KEYS", given)
    with pytest.raises(KeysError, match="PHASE5_API_KEYS is set and holds no key"):
        Keys.from_environment()


def test_without_the_variable_everyone_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PHASE5_API_KEYS", raising=False)
    assert not Keys.from_environment().guard


def test_such_an_engine_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASE5_API_KEYS", ",")
    with pytest.raises(UsageError, match="PHASE5_API_KEYS"):
        resolve(ServeOptions(model="nowhere/at/all"))
