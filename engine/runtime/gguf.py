"""From a llama GGUF file to a model folder: `python -m engine.runtime.gguf SOURCE FOLDER`.

mlx reads the file; what is done here is naming, the order of the rows of q and k, the
tokenizer and the chat template. On a CPU the weights are stored as fp32, the only type that
is fast there; on Metal they stay quantised.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

#: Layers are stored as Q4_1, the embedding in 8 bits, both in groups of 32.
GROUP: Final = 32
LAYER_BITS: Final = 4
EMBEDDING_BITS: Final = 8
#: GGUF's token types.
CONTROL_TOKEN: Final = 3

_LAYER_NAMES: Final = {
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
_OUTER_NAMES: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def convert(source: Path, folder: Path) -> None:
    """Write configuration, weights and tokenizer of a GGUF file into an existing folder.

    Raises:
        ValueError: for a file that is not a llama model.
    """
    arrays, metadata = mx.load(str(source), return_metadata=True)
    if metadata.get("general.architecture") != "llama":
        raise ValueError(f"{source.name}: not a llama model")
    quantised = mx.metal.is_available()
    config = _config(metadata)
    if quantised:
        config["quantization"] = _quantization()
    weights = _weights(arrays, config, quantised=quantised)
    _write(folder / "config.json", config)
    _write(folder / "tokenizer_config.json", _tokenizer_config(metadata))
    _tokenizer(metadata).save(str(folder / "tokenizer.json"))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")


def _number(metadata: dict[str, Any], key: str) -> float:
    value = metadata[key]
    return float(value.item() if isinstance(value, mx.array) else value)


def _config(metadata: dict[str, Any]) -> dict[str, Any]:
    def whole(key: str) -> int:
        return int(_number(metadata, key))

    hidden, heads = whole("llama.embedding_length"), whole("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": whole("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": whole("llama.attention.head_count_kv"),
        "head_dim": hidden // heads,
        "intermediate_size": whole("llama.feed_forward_length"),
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "max_position_embeddings": whole("llama.context_length"),
        "rms_norm_eps": _number(metadata, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": _number(metadata, "llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "bos_token_id": whole("tokenizer.ggml.bos_token_id"),
        "eos_token_id": whole("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "float32",
    }


def _quantization() -> dict[str, Any]:
    embedding = {"group_size": GROUP, "bits": EMBEDDING_BITS}
    return {"group_size": GROUP, "bits": LAYER_BITS, "model.embed_tokens": embedding}


def _weights(
    arrays: dict[str, mx.array], config: dict[str, Any], *, quantised: bool
) -> dict[str, mx.array]:
    """Rename, put q and k rows back in order, and dequantise where that is faster."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights: dict[str, mx.array] = {}
    for module in sorted({name.rsplit(".", 1)[0] for name in arrays}):
        parts = {
            part: arrays[f"{module}.{part}"]
            for part in ("weight", "scales", "biases")
            if f"{module}.{part}" in arrays
        }
        if "scales" in parts and not quantised:
            bits = EMBEDDING_BITS if module == "token_embd" else LAYER_BITS
            parts = {
                "weight": mx.dequantize(
                    parts["weight"], parts["scales"], parts["biases"], group_size=GROUP, bits=bits
                )
            }
        kind = module.rsplit(".", 1)[-1]
        for part, array in parts.items():
            rows = _rows_in_order(array, heads[kind]) if kind in heads else array
            floating = mx.issubdtype(rows.dtype, mx.floating) and not quantised
            weights[f"{_name(module)}.{part}"] = rows.astype(mx.float32) if floating else rows
    return weights


def _name(module: str) -> str:
    if module in _OUTER_NAMES:
        return _OUTER_NAMES[module]
    _, layer, kind = module.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[kind]}"


def _rows_in_order(array: mx.array, heads: int) -> mx.array:
    """GGUF interleaves the two halves of each head's rotary dimensions; llama wants halves."""
    rows = array.shape[0]
    split = array.reshape(heads, rows // heads // 2, 2, *array.shape[1:])
    return split.swapaxes(1, 2).reshape(array.shape)


def _tokenizer(metadata: dict[str, Any]) -> Tokenizer:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = metadata["tokenizer.ggml.token_type"].tolist()
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def _tokenizer_config(metadata: dict[str, Any]) -> dict[str, Any]:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[int(_number(metadata, "tokenizer.ggml.bos_token_id"))],
        "eos_token": tokens[int(_number(metadata, "tokenizer.ggml.eos_token_id"))],
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(_number(metadata, "llama.context_length")),
        "chat_template": metadata["tokenizer.chat_template"],
    }


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
