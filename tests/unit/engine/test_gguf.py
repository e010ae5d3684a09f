"""What conversion does to names, order and numbers; the whole of it answers in integration."""

import mlx.core as mx
import pytest

from engine.runtime.gguf import dequantised, renamed


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("output.weight", "lm_head.weight"),
        ("blk.12.attn_v.scales", "model.layers.12.self_attn.v_proj.scales"),
        ("blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight"),
        ("blk.0.ffn_gate.biases", "model.layers.0.mlp.gate_proj.biases"),
        ("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"),
        ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"),
        ("blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
    ],
)
def test_names_become_those_of_mlx_lm(theirs: str, ours: str) -> None:
    assert list(renamed({theirs: mx.zeros((4, 2))}, heads=1, kv_heads=1)) == [ours]


def test_an_array_of_unknown_meaning_is_an_error() -> None:
    with pytest.raises(KeyError, match="attn_rotation"):
        renamed({"blk.0.attn_rotation.weight": mx.zeros((4, 2))}, heads=1, kv_heads=1)


def test_rows_of_q_and_k_move_within_their_head() -> None:
    rows = mx.arange(8).reshape(8, 1)
    arrays = {f"blk.0.{part}.weight": rows for part in ("attn_q", "attn_k", "attn_v")}
    moved = renamed(arrays, heads=2, kv_heads=1)
    order = {name.split(".")[-2]: array.flatten().tolist() for name, array in moved.items()}
    assert order == {
        "q_proj": [0, 2, 1, 3, 4, 6, 5, 7],
        "k_proj": [0, 2, 4, 6, 1, 3, 5, 7],
        "v_proj": [0, 1, 2, 3, 4, 5, 6, 7],
    }


@pytest.mark.parametrize("bits", [4, 8])
def test_dequantising_gives_back_the_numbers_as_fp32(bits: int) -> None:
    original = mx.random.normal((2, 64), key=mx.random.key(0))
    weight, scales, biases = mx.quantize(original, group_size=32, bits=bits)
    plain = dequantised({"a.weight": weight, "a.scales": scales, "a.biases": biases})
    assert list(plain) == ["a.weight"]
    assert plain["a.weight"].dtype == mx.float32
    step = float(mx.max(mx.abs(scales)).item())
    assert float(mx.max(mx.abs(plain["a.weight"] - original)).item()) <= step
