"""Text to tokens and back, in the front end: no mlx, no transformers.

A chat template is a program that comes with a model, so it runs in Jinja's sandbox; what
users wrote is data to it and is never rendered as a template.
"""

import json
import logging
import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from engine.runtime.models import ModelError
from engine.server.detokenizers import (
    ByteDetokenizer,
    Detokenizer,
    WindowDetokenizer,
    byte_alphabet,
)

log = logging.getLogger("engine.text")

#: Where a model does not say how long its context is: as short as the shortest in use.
DEFAULT_CONTEXT: Final = 4096

#: Each boundary costs a rendering. A conversation branches at its latest turns.
_LATEST_TURNS: Final = 3

_BYTES: Final = byte_alphabet()
#: How SentencePiece vocabularies write one byte, and a space.
_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE: Final = "\u2581"


class TextError(ValueError):
    """Messages that the model's chat template refuses; the message is the template's own."""


class TextCodec:
    """The tokenizer and chat template of one model folder.

    Attributes:
        context_length: tokens of prompt and output together.
        vocab_size: token ids are below this.
        eos_ids: the tokens that end an output.

    Raises:
        ModelError: one of the folder's files cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = _tokenizer(folder / "tokenizer.json")
        config = _read(folder / "config.json")
        config = config.get("text_config", config)
        settings = _read(folder / "tokenizer_config.json")
        self._tokens = _special_tokens(settings)
        self._template = _compiled(folder, settings)
        self.context_length = _context_length(folder, config)
        self.vocab_size = int(config.get("vocab_size", self._tokenizer.get_vocab_size()))
        self.eos_ids = self._eos_ids(_read(folder / "generation_config.json"), config)
        self._byte_level = _is_byte_level(self._tokenizer)
        self._silent = _special_ids(self._tokenizer)
        self._known_bytes: dict[int, bytes] = {}

    def vocabulary(self) -> dict[str, int]:
        """Every token and its id."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def encode_chat(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        """Token ids of a conversation, ready for the assistant's turn.

        Raises:
            TextError: when the template refuses the messages.
        """
        # The template writes its own special tokens; the tokenizer must not add more.
        return self._ids(self._rendered(messages, ask=True), special=False)

    def encode_turns(self, messages: Sequence[dict[str, Any]]) -> tuple[list[int], list[int]]:
        """The same, and how many of the tokens the first turns have: one, two, ... but the last.

        Long conversations have boundaries behind the first turn and their latest only. A
        template that writes a beginning differently, or refuses it alone, has none there.

        Raises:
            TextError: when the template refuses the messages.
        """
        text = self._rendered(messages, ask=True)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        turns = range(1, len(messages))
        counts = sorted({*turns[:1], *turns[-_LATEST_TURNS:]})
        ends = [end for _, end in encoding.offsets]
        lengths = [self._beginning(messages[:count], text) for count in counts]
        return encoding.ids, sorted({bisect_right(ends, length) for length in lengths} - {0})

    def encode(self, text: str) -> list[int]:
        """Token ids of a plain text, with the special tokens that the tokenizer adds itself."""
        return self._ids(text, special=True)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens; special tokens give none."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for by itself, special ones as they are written."""
        if self._byte_level:
            return self._look_up(token)
        text = self._tokenizer.id_to_token(token) or ""
        if byte := _BYTE_TOKEN.fullmatch(text):
            return bytes([int(byte[1], 16)])
        return text.replace(_SPACE, " ").encode()

    def detokenizer(self) -> Detokenizer:
        """A fresh incremental decoder, for one stream."""
        if self._byte_level:
            return ByteDetokenizer(self._bytes_of)
        return WindowDetokenizer(self.decode)

    def _rendered(self, messages: Sequence[dict[str, Any]], *, ask: bool) -> str:
        try:
            return self._template.render(
                messages=list(messages),
                tools=None,
                documents=None,
                add_generation_prompt=ask,
                **self._tokens,
            )
        except Exception as error:  # a foreign program: what stops it is what we gave it
            raise TextError(f"messages: the chat template refuses them: {error}") from error

    def _beginning(self, messages: Sequence[dict[str, Any]], whole: str) -> int:
        """Characters that some first messages have of a whole text; 0 when it begins otherwise."""
        try:
            text = self._rendered(messages, ask=False)
        except TextError:  # many refuse a system prompt without a question: no boundary there
            return 0
        return len(text) if whole.startswith(text) else 0

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=special).ids

    def _bytes_of(self, token: int) -> bytes:
        known = self._known_bytes.get(token)
        if known is None:
            known = b"" if token in self._silent else self._look_up(token)
            self._known_bytes[token] = known
        return known

    def _look_up(self, token: int) -> bytes:
        text = self._tokenizer.id_to_token(token) or ""  # padded vocabularies have empty places
        if all(character in _BYTES for character in text):
            return bytes(_BYTES[character] for character in text)
        return text.encode()  # an added token is written as it is

    def _eos_ids(self, generation: dict[str, Any], config: dict[str, Any]) -> frozenset[int]:
        found = {self._tokenizer.token_to_id(self._tokens.get("eos_token", ""))}
        for given in (generation.get("eos_token_id"), config.get("eos_token_id")):
            found.update(given if isinstance(given, list) else [given])
        return frozenset(token for token in found if token is not None)


def _tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        raise ModelError(f"{path}: cannot be read as a tokenizer: {error}") from error
    # Some are published with the limits of their training data, and would cut prompts silently.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    decoder = json.loads(tokenizer.to_str())["decoder"]
    return decoder is not None and decoder["type"] == "ByteLevel"


def _special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    added = tokenizer.get_added_tokens_decoder()
    return frozenset(number for number, token in added.items() if token.special)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: cannot be read as JSON: {error}") from error
    return document


def _special_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """By name; written as a text, or as an object with its content. What is null is left out."""
    given = {name: settings.get(f"{name}_token") for name in ("bos", "eos", "pad", "unk")}
    return {
        f"{name}_token": token["content"] if isinstance(token, dict) else token
        for name, token in given.items()
        if token is not None
    }


def _context_length(folder: Path, config: dict[str, Any]) -> int:
    given = config.get("max_position_embeddings")
    if given is None:
        log.warning("%s: no max_position_embeddings; taking %d", folder, DEFAULT_CONTEXT)
        return DEFAULT_CONTEXT
    return int(given)


def _compiled(folder: Path, settings: dict[str, Any]) -> Template:
    try:
        return _environment().from_string(_template(folder, settings))
    except TemplateError as error:
        raise ModelError(f"{folder}: its chat template cannot be compiled: {error}") from error


def _template(folder: Path, settings: dict[str, Any]) -> str:
    separate = folder / "chat_template.jinja"
    if separate.is_file():
        return separate.read_text(encoding="utf-8")
    given = settings.get("chat_template")
    if isinstance(given, list):
        given = next((each["template"] for each in given if each["name"] == "default"), None)
    if given is None:
        return "{{ raise_exception('this model has no chat template; use /v1/completions') }}"
    return str(given)


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012  # jinja's own way of declaring it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """What chat templates expect to find."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)  # jinja's own escapes HTML


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)
