import asyncio
import json
from typing import Any

import httpx
import jsonschema
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Where?"}]}
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "Where?"}


def document(bench: Any) -> dict[str, Any]:
    told: dict[str, Any] = bench.get("/openapi.json").json()
    return told


def told_routes(told: dict[str, Any]) -> list[str]:
    return [
        f"{method.upper()} {path}" for path, methods in told["paths"].items() for method in methods
    ]


def validator(told: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    """Of a schema inside the document."""
    return Draft202012Validator({**schema, "components": told["components"]})


def schema_of(told: dict[str, Any], path: str, method: str, status: int, media: str) -> Any:
    return told["paths"][path][method]["responses"][str(status)]["content"][media]["schema"]


def test_the_document_names_exactly_the_routes_that_are_served(make_bench: Any) -> None:
    bench = make_bench()
    served = [
        f"{method} {route.path}"
        for route in bench.app.rest.routes
        for method in route.methods - {"HEAD"}
    ]
    assert served == told_routes(document(bench))
    assert served == bench.get("/v1/status").json()["endpoints"]["routes"]


def test_the_document_is_openapi_3_1(make_bench: Any) -> None:
    told = document(make_bench())
    assert told["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(told).validate()
    ids = [item["operationId"] for path in told["paths"].values() for item in path.values()]
    assert len(ids) == len(set(ids))
    for schema in told["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if "$ref" in part else set()
        return own.union(*map(references, part.values()))
    return set().union(*map(references, part)) if isinstance(part, list) else set()


def test_every_reference_leads_somewhere_and_every_schema_is_used(make_bench: Any) -> None:
    told = document(make_bench())
    names = {f"#/components/schemas/{name}" for name in told["components"]["schemas"]}
    assert references(told) == names


def test_security_is_told_as_it_is(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def secured(told: dict[str, Any]) -> dict[str, Any]:
        return {
            path: operation["security"]
            for path, methods in told["paths"].items()
            for operation in methods.values()
            if "security" in operation
        }

    monkeypatch.delenv("PHASE5_API_KEYS", raising=False)
    monkeypatch.delenv("PHASE5_ADMIN_TOKEN", raising=False)
    assert secured(document(make_bench())) == {}
    monkeypatch.setenv("PHASE5_API_KEYS", "key")
    monkeypatch.setenv("PHASE5_ADMIN_TOKEN", "token")
    told = document(make_bench())
    assert secured(told) == {
        "/v1/chat/completions": [{"api_key": []}],
        "/v1/completions": [{"api_key": []}],
        "/v1/models": [{"api_key": []}],
        "/admin/reload": [{"admin": []}],
        "/admin/rollback": [{"admin": []}],
        "/admin/rollout": [{"admin": []}],
        "/admin/lease": [{"admin": []}],
        "/admin/drain": [{"admin": []}],
    }
    assert told["components"]["securitySchemes"].keys() == {"api_key", "admin"}


def test_the_document_tells_what_the_model_allows(make_bench: Any) -> None:
    told = document(make_bench())
    check = validator(told, {"$ref": "#/components/schemas/CompletionRequest"}).is_valid
    assert check({**TEXT, "n": 16, "logprobs": 5, "stop": ["a"] * 16, "seed": -1})
    assert check({"model": "tiny", "prompt": [0, 255]})
    for wrong in ({"model": "other"}, {"prompt": [256]}, {"prompt": ""}, {"max_tokens": 1000}):
        assert not check({**TEXT, **wrong})


PLAIN: list[tuple[str, str, int]] = [
    ("get", "/v1/models", 200),
    ("get", "/v1/status", 200),
    ("get", "/livez", 200),
    ("get", "/readyz", 200),
    ("get", "/openapi.json", 200),
    ("post", "/admin/reload", 200),
    ("post", "/admin/rollback", 200),
    ("post", "/admin/drain", 200),
]
BODIES = [
    ("/admin/rollback", {"flags": ["ttft_pipeline"], "cause": "drill", "reason": "a drill"}, 200),
    ("/admin/rollback", {"flags": ["no_flag"]}, 400),
    ("/admin/rollback", {"cause": "whim"}, 400),
    ("/admin/rollout", {"generation": 2, "flags": {"ttft_pipeline": {"enabled": True}}}, 200),
    ("/admin/rollout", {"generation": -1, "flags": {}}, 400),
    ("/admin/rollout", {"generation": 2, "flags": {"ttft_pipeline": {"share": 1}}}, 400),
    ("/admin/lease", {"seconds": 60}, 200),
    ("/admin/lease", {"seconds": 0}, 400),
    ("/admin/lease", {}, 400),
]


@pytest.mark.parametrize(("method", "path", "status"), PLAIN)
def test_plain_answers_are_as_told(make_bench: Any, method: str, path: str, status: int) -> None:
    bench = make_bench()
    told = document(bench)

    async def ask() -> httpx.Response:
        async with bench.client() as client:
            return await client.request(method.upper(), path)

    answer = asyncio.run(ask())
    assert answer.status_code == status
    schema = schema_of(told, path, method, status, "application/json")
    validator(told, schema).validate(answer.json())


@pytest.mark.parametrize("flags", [frozenset(), None], ids=["forced", "configured"])
@pytest.mark.parametrize(("path", "body", "status"), BODIES)
def test_administration_of_the_rollout_answers_as_told(
    make_bench: Any, flags: Any, path: str, body: dict[str, Any], status: int
) -> None:
    bench = make_bench(flags=flags)
    told = document(bench)
    answer = bench.post(path, **body)
    assert answer.status_code == status, answer.text
    schema = schema_of(told, path, "post", status, "application/json")
    validator(told, schema).validate(answer.json())


LOGPROBS = [
    ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2}),
    ("/v1/completions", {**TEXT, "logprobs": 2}),
]
PLAINLY = [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)]


@pytest.mark.parametrize(("path", "body"), [*PLAINLY, *LOGPROBS])
def test_answers_are_as_told_whole_and_streamed(
    make_bench: Any, path: str, body: dict[str, Any]
) -> None:
    bench = make_bench()
    told = document(bench)
    whole = bench.post(path, **body, n=2)
    schema = schema_of(told, path, "post", 200, "application/json")
    validator(told, schema).validate(whole.json())
    options = {"stream": True, "stream_options": {"include_usage": True}}
    lines = bench.post(path, **body, n=2, **options).text.split("\n\n")[:-2]
    event = schema_of(told, path, "post", 200, "text/event-stream")
    chunk = event["properties"]["data"]["anyOf"][0]["contentSchema"]
    assert len(lines) > 4
    for line in lines:
        validator(told, chunk).validate(json.loads(line.removeprefix("data: ")))


@pytest.mark.parametrize(
    ("body", "status"),
    [({}, 400), ({**CHAT, "model": "x"}, 404), ({**CHAT, "max_tokens": 999}, 422)],
)
def test_errors_are_as_told(make_bench: Any, body: dict[str, Any], status: int) -> None:
    bench = make_bench()
    told = document(bench)
    answer = bench.post(**body)
    assert answer.status_code == status
    schema = schema_of(told, "/v1/chat/completions", "post", status, "application/json")
    validator(told, schema).validate(answer.json())
    with pytest.raises(jsonschema.ValidationError):
        validator(told, schema).validate({"error": "text"})
