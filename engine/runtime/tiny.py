"""`tiny`: a Llama made on the spot from a fixed seed, for measuring the engine itself.

Its text means nothing, on purpose: at 0.36 million parameters a step costs about a
millisecond, so what shows is scheduling, transport and bookkeeping. The head is untied: a
random model whose head is its embedding repeats one token, and would hide every fault that
loses or repeats one. Every ordinary token is printable ASCII, so no text is ever held back.
"""

import json
from itertools import product
from math import sqrt
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SEED: Final = 5
HIDDEN: Final = 64
LAYERS: Final = 2
HEADS: Final = 4
HEAD_DIM: Final = HIDDEN // HEADS
INTERMEDIATE: Final = 2 * HIDDEN
VOCABULARY: Final = 4096
CONTEXT: Final = 8192

#: Special tokens take the first ids, in this order.
SPECIALS: Final = ("<unk>", "<s>", "</s>", "<pad>")
BOS, EOS, PAD = 1, 2, 3

CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{% for message in messages %}[{{ message.role }}] {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def build(folder: Path) -> None:
    """Write the model into an existing folder: configuration, weights, tokenizer."""
    _write(folder / "config.json", _config())
    _write(folder / "tokenizer_config.json", _tokenizer_config())
    _tokenizer().save(str(folder / "tokenizer.json"))
    save_file(_weights(), folder / "model.safetensors", metadata={"format": "mlx"})


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD_DIM,
        "intermediate_size": INTERMEDIATE,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "torch_dtype": "float32",
    }


def _tokenizer_config() -> dict[str, Any]:
    unk, bos, eos, pad = SPECIALS
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": unk,
        "bos_token": bos,
        "eos_token": eos,
        "pad_token": pad,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _tokenizer() -> Tokenizer:
    """Byte-level BPE over printable ASCII; anything else becomes `<unk>`."""
    space = "Ġ"  # how byte-level BPE writes a space
    alphabet = [space, *(chr(code) for code in range(33, 127))]
    merges = list(_merges(space, VOCABULARY - len(SPECIALS) - len(alphabet)))
    tokens = [*SPECIALS, *alphabet, *(first + second for first, second in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=SPECIALS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    return tokenizer


def _merges(space: str, count: int) -> list[tuple[str, str]]:
    """Pairs of letters, then a space or a letter before a pair, until there are enough."""
    pairs = [(a, b) for a, b in product(ascii_lowercase, repeat=2)]
    spaced = [(space, a + b) for a, b in pairs]
    triples = [(a, b + c) for a, b, c in product(ascii_lowercase, repeat=3)]
    return [*pairs, *spaced, *triples][:count]


def _weights() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> NDArray[np.float32]:
        drawn = random.standard_normal((rows, columns), dtype=np.float32)
        return drawn * np.float32(scale / sqrt(columns))

    head = matrix(VOCABULARY, HIDDEN, scale=4.0)
    head[: len(SPECIALS)] = 0  # a special token never has the highest logit
    weights = {
        # Embeddings as large as the residual stream: the last token matters most.
        "model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN, scale=sqrt(HIDDEN)),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
        "lm_head.weight": head,
    }
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights[f"{at}self_attn.{name}.weight"] = matrix(HIDDEN, HIDDEN)
        for name in ("gate_proj", "up_proj"):
            weights[f"{at}mlp.{name}.weight"] = matrix(INTERMEDIATE, HIDDEN)
        weights[f"{at}mlp.down_proj.weight"] = matrix(HIDDEN, INTERMEDIATE)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{at}{name}.weight"] = np.ones(HIDDEN, np.float32)
    return weights
