import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.server.bodies import MAX_DEPTH, read_object
from engine.server.errors import ApiError


def refused(body: bytes) -> tuple[int, str | None, str | None]:
    with pytest.raises(ApiError) as caught:
        read_object(body)
    return caught.value.status, caught.value.param, caught.value.code


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'"text"',
        b'{"a": 1}}',
        b"{'a': 1}",
        b'{"a": "\xff"}',
        b'{"a": "\0"}',
        b'\0{"a": 1}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b'{"a":' * 100_000,
    ],
)
def test_what_is_no_json_object(body: bytes) -> None:
    assert refused(body) == (400, None, "invalid_json")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"a": NaN}', "a"),
        (b'{"a": {"b": [0, -Infinity]}}', "a.b[1]"),
        (b'{"a": 1e999}', "a"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "a"),
        (b'{"a": 1, "b": 2, "a": 3}', "a"),
        (b'{"a": [{"b": 1, "b": 1}]}', "b"),
        (b'{"a": "\\ud800"}', "a"),
        (b'{"a": ["x", "\\udfff y"]}', "a[1]"),
        (b'{"\\ud800": 1}', "\\ud800"),
        (b'{"a": "x\\u0000y"}', "a"),
        (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "a"),
    ],
)
def test_what_no_field_may_hold_is_refused_with_the_field(body: bytes, field: str) -> None:
    assert refused(body) == (400, field, "invalid_value")


def test_a_number_is_an_integer_however_it_is_written() -> None:
    assert read_object(b'{"a": 4.0, "b": 1e3, "c": 0.5}') == {"a": 4, "b": 1000, "c": 0.5}
    assert isinstance(read_object(b'{"a": 4.0}')["a"], int)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), VALUES))
def test_everything_else_is_read_as_it_is(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    if "\\u0000" in text:
        assert refused(text.encode())[0] == 400
    else:
        assert read_object(text.encode()) == document


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_bad_request(body: bytes) -> None:
    try:
        read_object(body)
    except ApiError as error:
        assert error.status == 400  # noqa: PT017 - both ends are right
