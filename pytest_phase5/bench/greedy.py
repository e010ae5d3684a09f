"""mlx-lm's own generation, one prompt after the other: what every server must answer.

    python -P -m pytest_phase5.bench.greedy MODEL_FOLDER

Reads one JSON object from standard input (`prompts`, each a list of messages, and `tokens`), and
writes one list of texts. Started with the environment of a runtime process: the same BLAS.
"""

import json
import sys
from typing import Any


def answers(folder: str, prompts: list[list[dict[str, str]]], tokens: int) -> list[str]:
    """The greedy answer to each prompt."""
    from mlx_lm import generate, load

    model, tokenizer, *_ = load(folder)
    return [_answer(generate, model, tokenizer, messages, tokens) for messages in prompts]


def _answer(generate: Any, model: Any, tokenizer: Any, messages: Any, tokens: int) -> str:
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    return str(generate(model, tokenizer, prompt=prompt, max_tokens=tokens))


def main() -> None:
    """Answer what standard input asks."""
    asked = json.load(sys.stdin)
    told = answers(sys.argv[1], asked["prompts"], asked["tokens"])
    print(json.dumps(told))  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
