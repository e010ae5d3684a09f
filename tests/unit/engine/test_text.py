"""Tokens in the front end agree with those of mlx-lm, and streaming text with whole text."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runtime.models import ModelError, resolve_model
from engine.server.detokenizers import WindowDetokenizer
from engine.server.text import TextCodec, TextError

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="session")
def tiny() -> Path:
    return resolve_model("tiny").path


@cache
def tiny_codec() -> TextCodec:
    return TextCodec(resolve_model("tiny").path)


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of tiny without a chat template."""
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    return tmp_path


def with_template(folder: Path, template: Any, **settings: Any) -> TextCodec:
    document = {"chat_template": template, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(document))
    return TextCodec(folder)


def rendered(codec: TextCodec, messages: list[dict[str, Any]]) -> str:
    return codec.decode(codec.encode_chat(messages))


def streamed(codec: TextCodec, tokens: list[int]) -> str:
    detokenizer = codec.detokenizer()
    return "".join([*(detokenizer.push(token) for token in tokens), detokenizer.finish()])


@settings(deadline=None)
@given(tokens=st.lists(st.integers(0, 4095), max_size=40))
def test_text_in_pieces_equals_the_whole(tokens: list[int]) -> None:
    assert streamed(tiny_codec(), tokens) == tiny_codec().decode(tokens)


@settings(deadline=None)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_printable_text_survives_the_way_there_and_back(text: str) -> None:
    assert streamed(tiny_codec(), tiny_codec().encode(text)) == text


@settings(deadline=None)
@given(text=st.text(max_size=20))
def test_a_window_of_bytes_gives_valid_text_without_loss(text: str) -> None:
    window = WindowDetokenizer(lambda ids: bytes(ids).decode(errors="replace"))
    pieces = [*(window.push(byte) for byte in text.encode()), window.finish()]
    assert "".join(pieces) == text


def test_a_window_gives_up_on_bytes_that_never_become_a_character() -> None:
    window = WindowDetokenizer(lambda ids: bytes(ids).decode(errors="replace"))
    assert [window.push(0xFF) for _ in range(4)] == ["", "", "", "\ufffd" * 4]


def test_special_tokens_give_no_text() -> None:
    codec = tiny_codec()
    tokens = [1, *codec.encode("hello"), 2]
    assert codec.decode(tokens) == "hello"
    assert streamed(codec, tokens) == "hello"


def test_a_place_of_the_vocabulary_without_a_token_gives_no_text() -> None:
    assert streamed(tiny_codec(), [5000]) == ""


def test_facts_come_from_the_model() -> None:
    codec = tiny_codec()
    assert (codec.context_length, codec.vocab_size) == (8192, 4096)
    assert codec.eos_ids == frozenset({2})


def test_every_source_of_end_tokens_counts(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    codec = with_template(folder, "", eos_token="<pad>")  # noqa: S106  # not that kind of token
    assert codec.eos_ids == frozenset({2, 3, 7, 8})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ messages[0].content }}", "hello"),
        ([{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}], "y"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "hello"}'),
        ("{{ strftime_now('at') }}", "at"),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{% for m in [1, 2] %}{{ m }}{% break %}{% endfor %}", "1"),
        ("{% if add_generation_prompt %}go{% endif %}", "go"),
        ("[{{ bos_token }}]", "[]"),
        ("[{{ eos_token }}]", "[end]"),
    ],
)
def test_templates_find_what_they_expect(folder: Path, template: Any, expected: str) -> None:
    codec = with_template(folder, template, bos_token=None, eos_token={"content": "end"})
    assert rendered(codec, HELLO) == expected


def test_a_template_file_wins(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("from the file")
    assert rendered(with_template(folder, "from the settings"), HELLO) == "from the file"


@pytest.mark.parametrize("text", ["{{ 7 * 7 }}", "{% raw %}", "{{ ''.__class__ }}", "{#"])
def test_what_a_user_writes_is_never_run_as_a_template(text: str) -> None:
    assert text in rendered(tiny_codec(), [{"role": "user", "content": text}])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages[0].content + 1 }}", "concatenate"),
        (None, "no chat template"),
    ],
)
def test_what_a_template_refuses_is_an_error_with_its_reason(
    folder: Path, template: str | None, reason: str
) -> None:
    codec = with_template(folder, template)
    with pytest.raises(TextError, match=reason):
        codec.encode_chat(HELLO)


CONVERSATION = [
    {"role": "system", "content": "You answer in rhymes, whatever the question may be."},
    {"role": "user", "content": "Where is Paris?"},
    {"role": "assistant", "content": "Far."},
    {"role": "user", "content": "How far?"},
]


def test_the_turns_of_a_conversation_are_boundaries_that_others_share() -> None:
    codec = tiny_codec()
    tokens, boundaries = codec.encode_turns(CONVERSATION)
    assert tokens == codec.encode_chat(CONVERSATION)
    other, others = codec.encode_turns([CONVERSATION[0], {"role": "user", "content": "Why?"}])
    assert len(boundaries) == 3
    assert boundaries == sorted(set(boundaries))
    assert others == boundaries[:1]
    assert other[: others[0]] == tokens[: boundaries[0]]


def test_a_long_conversation_has_boundaries_behind_its_first_and_its_latest_turns() -> None:
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"turn {n}"} for n in range(41)]
    assert len(tiny_codec().encode_turns(turns)[1]) == 4


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('alone') if messages | length < 4 }}{{ messages[-1].content }}",
        "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
    ],
    ids=["refuses beginnings", "writes them differently"],
)
def test_a_template_without_common_beginnings_has_no_boundaries(
    folder: Path, template: str
) -> None:
    assert with_template(folder, template).encode_turns(CONVERSATION)[1] == []


def test_the_bytes_of_tokens_are_the_text() -> None:
    codec = tiny_codec()
    text = "a b, cd"
    data = b"".join(map(codec.token_bytes, codec.encode(text)))
    assert data.decode() == text
    (end,) = codec.eos_ids
    assert codec.token_bytes(end) != b""  # though it gives no text
    assert codec.decode([end]) == ""
    assert codec.token_bytes(codec.vocab_size + 1) == b""


def test_a_vocabulary_of_pieces_writes_spaces_and_bytes_in_its_own_way(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models

    vocabulary = {"\u2581the": 0, "re": 1, "<0x0A>": 2, "<0xE2>": 3}
    pieces = Tokenizer(models.WordLevel(vocabulary))
    pieces.decoder = decoders.Metaspace()
    pieces.save(str(folder / "tokenizer.json"))
    codec = TextCodec(folder)
    assert [codec.token_bytes(token) for token in range(4)] == [b" the", b"re", b"\n", b"\xe2"]


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "chat_template.jinja"])
def test_a_damaged_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{% oops")
    with pytest.raises(ModelError, match=name.partition(".")[0].replace("_", " |_")):
        TextCodec(folder)


def test_limits_of_training_data_do_not_cut_a_prompt(folder: Path) -> None:
    from tokenizers import Tokenizer

    cutting = Tokenizer.from_file(str(folder / "tokenizer.json"))
    cutting.enable_truncation(2)
    cutting.save(str(folder / "tokenizer.json"))
    assert TextCodec(folder).encode("a b c d") == tiny_codec().encode("a b c d")


def test_the_codec_imports_nothing_of_mlx_or_transformers() -> None:
    program = (
        "import sys, engine.server.text;"
        "print({m.split('.')[0] for m in sys.modules} & {'mlx', 'mlx_lm', 'transformers'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"
