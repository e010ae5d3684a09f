from collections import Counter
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.key_account import (
    CONTROL,
    MAP_BITS,
    MOST_TOLD,
    TREATMENT,
    BusyKeys,
    DistinctKeys,
    KeyAccount,
    UnluckyKeys,
)


def digest(key: object) -> int:
    return int.from_bytes(blake2b(str(key).encode(), digest_size=8).digest())


@pytest.mark.parametrize("keys", [10, 1_000, 20_000])
def test_different_keys_are_counted_to_a_few_per_cent(keys: int) -> None:
    distinct = DistinctKeys(bits=16_384)
    total = sum(distinct.new(digest(key)) for key in range(keys))
    assert total == pytest.approx(keys, rel=0.03)


def test_a_key_that_comes_again_is_not_new() -> None:
    distinct = DistinctKeys()
    assert distinct.new(digest("a")) == 1
    assert distinct.new(digest("a")) == 0


def test_a_full_map_counts_nothing_more() -> None:
    distinct = DistinctKeys(bits=64)
    weights = [distinct.new(digest(key)) for key in range(10_000)]
    assert max(weights) <= 16
    assert sum(weights[5_000:]) == 0


def test_the_map_of_a_flag_takes_128_kib() -> None:
    assert MAP_BITS == 8 * 128 * 1024


@given(st.lists(st.integers(0, 30), max_size=600))
def test_no_key_is_told_with_more_than_it_sent_and_what_is_told_only_rises(
    keys: list[int],
) -> None:
    busy, sent = BusyKeys(), Counter[int]()
    told: dict[int, int] = {}
    for key in keys:
        busy.add(key)
        sent[key] += 1
        assert all(busy.told[each] >= n for each, n in told.items())
        told = dict(busy.told)
    assert all(sent[key] >= n for key, n in told.items())
    for key, n in sent.items():
        if n == len(keys) and n >= 50:
            assert key in told


def test_one_busy_key_among_many_is_told_with_nearly_all_its_requests() -> None:
    busy = BusyKeys()
    for number in range(20_000):
        busy.add(7 if number % 5 == 0 else 1_000 + number)
    assert set(busy.told) == {7}
    assert 3_900 <= busy.told[7] <= 4_000


def test_many_keys_alike_are_not_told() -> None:
    busy = BusyKeys()
    for number in range(20_000):
        busy.add(number % 40)
    assert not busy.told


def test_memory_is_bounded_whatever_comes() -> None:
    busy, unlucky = BusyKeys(), UnluckyKeys()
    for number in range(200_000):
        busy.add(number // 60 if number % 2 else number)
        unlucky.add(number, 1)
    assert len(busy.told) <= MOST_TOLD
    assert len(busy._candidates) <= 64
    assert len(unlucky._errors) <= 1_024
    assert unlucky.squares == 200_000


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=80))
def test_errors_are_squared_by_key_and_minute(errors: list[tuple[int, int]]) -> None:
    unlucky = UnluckyKeys()
    for key, minute in sorted(errors, key=lambda error: error[1]):
        unlucky.add(key, minute)
    assert unlucky.squares == sum(n * n for n in Counter(errors).values())


def test_another_epoch_forgets_keys_and_keeps_counting() -> None:
    account = KeyAccount()
    account.begin(1)
    for _ in range(60):
        account.ended(5, TREATMENT, bad=True, minute=1)
    assert (account.arms[TREATMENT].new, dict(account.arms[TREATMENT].busiest)) == (1, {5: 60})
    account.begin(1)
    assert account.arms[TREATMENT].busiest
    account.begin(2)
    account.ended(5, CONTROL, bad=False, minute=1)
    assert not account.arms[TREATMENT].busiest
    assert account.arms[TREATMENT].new + account.arms[CONTROL].new == 2
    assert account.arms[TREATMENT].unlucky.squares == 3_600
