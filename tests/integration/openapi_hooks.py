"""Loaded by schemathesis: keeps the requests that it makes up affordable."""

from typing import Any

import schemathesis

#: Enough tokens for a first, a middle and a last one.
TOKENS = 3
#: The longest that the document allows, on the model of the test.
CONTEXT = 8192


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Generate little. What the document forbids stays as it is."""
    body = case.body
    if not isinstance(body, dict) or not case.path.startswith("/v1/"):
        return
    for name in ("max_tokens", "max_completion_tokens"):
        if isinstance(body.get(name), int | float) and 0 < body[name] <= CONTEXT:
            body[name] = TOKENS
    if body.get("max_tokens") is None:
        body["max_tokens"] = TOKENS
    # That one needs the other is a rule which the document has no words for.
    if not body.get("logprobs"):
        body.pop("top_logprobs", None)
