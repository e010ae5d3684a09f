"""Which engines there are, also when the configuration cannot be read any more."""

from pathlib import Path

import pytest

from gates.fleet import base_url, config_in_use, flag_names, known_engines, remember, state_folder

TWO = "rollout: {engines: ['http://a:1/', 'http://b:2'], ca: own.pem}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "runtime.yaml"
    path.write_text(TWO, "utf-8")
    return path


def test_those_given_come_beside_those_of_the_configuration(config: Path) -> None:
    known = known_engines(config, ["http://c:3", "http://a:1"])
    assert known.urls == ("http://c:3", "http://a:1", "http://b:2")
    assert (known.ca, known.doubt) == (Path("own.pem"), "")


@pytest.mark.parametrize("text", ["[", "\xff", "a: b", "", "- 1", "rollout: 7", "rollout: {}"])
def test_without_a_list_those_known_last_take_its_place(config: Path, text: str) -> None:
    remember(config, ["http://a:1"], "own.pem")
    config.write_bytes(text.encode("latin-1"))
    known = known_engines(config, [])
    assert (known.urls, known.ca) == (("http://a:1",), Path("own.pem"))
    assert bool(known.doubt) == (text in {"[", "\xff"})


def test_a_file_that_is_gone_is_in_doubt(config: Path) -> None:
    remember(config, ["http://a:1"], None)
    config.unlink()
    assert known_engines(config, []).urls == ("http://a:1",)
    assert str(config) in known_engines(config, []).doubt


def test_nothing_known_is_nothing(config: Path) -> None:
    config.unlink()
    assert known_engines(config, []).urls == ()


def test_an_empty_list_does_not_make_one_forget(config: Path) -> None:
    remember(config, ["http://a:1"], None)
    remember(config, [], None)
    config.unlink()
    assert known_engines(config, []).urls == ("http://a:1",)


def test_what_is_kept_already_is_not_written_again(config: Path) -> None:
    remember(config, ["http://a:1"], None)
    (kept,) = state_folder(config).iterdir()
    before = kept.stat().st_mtime_ns
    remember(config, ["http://a:1"], None)
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize("url", ["http://h", "https://h:8443/", "http://[::1]:80/engine/"])
def test_a_base_has_no_slash_at_its_end(url: str) -> None:
    assert base_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["h:80", "ftp://h", "http://", "http://u:s3cret@h", "http://h?x", "http://h:0", "http://h:x"],
)
def test_what_is_no_base_is_refused_and_no_password_told(url: str) -> None:
    with pytest.raises(ValueError, match="allowed: http") as caught:
        base_url(url)
    assert "s3cret" not in str(caught.value)


def test_flags_are_named_once_and_rightly() -> None:
    assert flag_names(["qos_monitoring", "qos_monitoring"]) == ("qos_monitoring",)
    with pytest.raises(ValueError, match="allowed: adaptive_governor"):
        flag_names(["governor"])


def test_a_project_has_its_configuration_in_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_in_use(Path("given.yaml")) == Path("given.yaml")
    assert config_in_use(None).name == "runtime.yaml"
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "runtime.yaml").write_text("", "utf-8")
    assert config_in_use(None) == Path("config/runtime.yaml")
