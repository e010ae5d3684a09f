import pytest

from pytest_phase5.load.models import TargetError, first_model


def test_the_first_model_of_the_list_is_the_one() -> None:
    body = b'{"object": "list", "data": [{"id": "tiny"}, {"id": "other"}]}'
    assert first_model("http://x/v1/models", body) == "tiny"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": []}', b'{"data": [{}]}'])
def test_a_target_without_a_model_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(TargetError, match="http://x/v1/models: not a list of models"):
        first_model("http://x/v1/models", body)
