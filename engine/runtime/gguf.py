"""Conversion of a Llama in GGUF to a folder that mlx-lm loads.

`python -m engine.runtime.gguf SRC DST`. A process of its own, since it imports mlx.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

#: How GGUF marks a control token.
_SPECIAL: Final = 3

#: GGUF blocks of Q4_1 and Q8_0 share one scale among 32 weights.
_GROUP: Final = 32

_OUTSIDE: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_INSIDE: Final = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def convert(source: Path, folder: Path, *, quantised: bool) -> None:
    """Write configuration, weights and tokenizer into an existing folder.

    Args:
        source: a GGUF file of the `llama` architecture with a byte-level BPE.
        folder: receives the files.
        quantised: keep the quantised weights, which Metal is fast with. A CPU is fast with
            fp32 only, so there they are expanded once.
    """
    loaded: Any = mx.load(str(source), return_metadata=True)  # its type is a union of all formats
    arrays, metadata = loaded
    facts = _Facts(metadata)
    weights = renamed(arrays, heads=facts.heads, kv_heads=facts.kv_heads)
    config = facts.config()
    if quantised:
        config["quantization"] = _quantisation(weights)
    else:
        weights = dequantised(weights)
    config["phase5_weights"] = "as in the GGUF file" if quantised else "float32, dequantised"
    _write(folder / "config.json", config)
    _write(folder / "tokenizer_config.json", facts.tokenizer_config())
    facts.tokenizer().save(str(folder / "tokenizer.json"))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})


def renamed(arrays: Mapping[str, mx.array], *, heads: int, kv_heads: int) -> dict[str, mx.array]:
    """mlx-lm's names, and the rows of q and k (outputs, inputs) in mlx-lm's order."""
    return {
        _name(key): _split_halves(array, {"attn_q": heads, "attn_k": kv_heads}.get(_part(key)))
        for key, array in arrays.items()
    }


def dequantised(weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Every weight (outputs, inputs) as float32."""
    plain = {}
    for name, array in weights.items():
        stem, _, kind = name.rpartition(".")
        if kind in ("scales", "biases"):
            continue
        scales = weights.get(f"{stem}.scales")
        if scales is not None:
            bits = _bits(array, scales)
            biases = weights[f"{stem}.biases"]
            scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
            array = mx.dequantize(array, scales, biases, group_size=_GROUP, bits=bits)  # noqa: PLW2901  # the same weight
        plain[name] = array.astype(mx.float32)
    return plain


class _Facts:
    """What the metadata of a GGUF file says, in the words of a model folder."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = metadata
        architecture = metadata["general.architecture"]
        if architecture != "llama":
            raise ValueError(f"architecture {architecture!r} in a GGUF file; allowed: 'llama'")
        self.heads = int(self._number("llama.attention.head_count"))
        self.kv_heads = int(self._number("llama.attention.head_count_kv"))
        self.tokens: list[str] = metadata["tokenizer.ggml.tokens"]

    def config(self) -> dict[str, Any]:
        hidden = int(self._number("llama.embedding_length"))
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": hidden,
            "intermediate_size": int(self._number("llama.feed_forward_length")),
            "num_hidden_layers": int(self._number("llama.block_count")),
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": hidden // self.heads,
            # Stored as float32: 1e-5 comes back as 9.99999974e-06.
            "rms_norm_eps": float(f"{self._number('llama.attention.layer_norm_rms_epsilon'):.6g}"),
            "vocab_size": len(self.tokens),
            "rope_theta": self._number("llama.rope.freq_base"),
            "max_position_embeddings": int(self._number("llama.context_length")),
            "tie_word_embeddings": True,
            "bos_token_id": int(self._number("tokenizer.ggml.bos_token_id")),
            "eos_token_id": int(self._number("tokenizer.ggml.eos_token_id")),
        }

    def tokenizer_config(self) -> dict[str, Any]:
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self._token("bos"),
            "eos_token": self._token("eos"),
            "unk_token": self._token("unknown"),
            "pad_token": self._token("padding"),
            "model_max_length": int(self._number("llama.context_length")),
            "clean_up_tokenization_spaces": False,
            "chat_template": self._metadata["tokenizer.chat_template"],
        }

    def tokenizer(self) -> Tokenizer:
        merges = [tuple(line.split(" ")) for line in self._metadata["tokenizer.ggml.merges"]]
        vocabulary = {token: number for number, token in enumerate(self.tokens)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        digits = pre_tokenizers.Digits(individual_digits=True)
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in self._special()]
        )
        return tokenizer

    def _special(self) -> list[str]:
        kinds = self._metadata["tokenizer.ggml.token_type"].tolist()
        return [token for token, kind in zip(self.tokens, kinds, strict=True) if kind == _SPECIAL]

    def _number(self, key: str) -> float:
        return float(self._metadata[key].item())

    def _token(self, kind: str) -> str:
        return self.tokens[int(self._number(f"tokenizer.ggml.{kind}_token_id"))]


def _part(key: str) -> str:
    """`attn_q` of `blk.3.attn_q.weight`, `output` of `output.weight`."""
    return key.split(".")[-2]


def _name(key: str) -> str:
    *place, part, kind = key.split(".")
    if not place:
        return f"{_OUTSIDE[part]}.{kind}"
    return f"model.layers.{place[1]}.{_INSIDE[part]}.{kind}"


def _split_halves(array: mx.array, heads: int | None) -> mx.array:
    """GGUF interleaves the two halves that rotary embedding pairs; mlx-lm keeps them apart.

    Rows are whole groups of a quantised weight, so packed weights and scales move alike.
    """
    if heads is None:
        return array
    rows, *rest = array.shape
    return array.reshape(heads, rows // heads // 2, 2, *rest).swapaxes(1, 2).reshape(rows, *rest)


def _bits(packed: mx.array, scales: mx.array) -> int:
    """Words of 32 bits hold the weights; each scale speaks for a group of them."""
    return int(32 * packed.shape[-1] // (scales.shape[-1] * _GROUP))


def _quantisation(weights: Mapping[str, mx.array]) -> dict[str, Any]:
    """mlx-lm's description: each quantised module with its own width."""
    modules = {
        name.removesuffix(".scales"): {
            "group_size": _GROUP,
            "bits": _bits(weights[name.removesuffix("scales") + "weight"], scales),
        }
        for name, scales in weights.items()
        if name.endswith(".scales")
    }
    return {"group_size": _GROUP, "bits": 4, **modules}


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def main() -> None:
    """Convert for the machine that this runs on."""
    parser = argparse.ArgumentParser(prog="python -m engine.runtime.gguf", description=__doc__)
    parser.add_argument("source", type=Path, metavar="SRC")
    parser.add_argument("folder", type=Path, metavar="DST")
    given = parser.parse_args()
    convert(given.source, given.folder, quantised=mx.metal.is_available())


if __name__ == "__main__":
    main()
