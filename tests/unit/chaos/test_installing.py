"""Where the Toxiproxy server is looked for, and what is said when there is none."""

from pathlib import Path

import pytest

from chaos.errors import InstallError
from chaos.installing import find_server, install, require_server


def test_the_variable_goes_before_the_path_and_the_path_before_the_tools(tmp_path: Path) -> None:
    there = {"/mine": "/mine", "toxiproxy-server": "/usr/bin/toxiproxy-server"}
    variable = {"TOXIPROXY_SERVER": "/mine"}
    assert find_server(tmp_path, variable, there.get) == Path("/mine")
    assert find_server(tmp_path, {}, there.get) == Path("/usr/bin/toxiproxy-server")
    tool = str(tmp_path / "toxiproxy-server")
    assert find_server(tmp_path, {}, {tool: tool}.get) == Path(tool)
    assert find_server(tmp_path, {}, lambda _: None) is None


def test_a_variable_that_names_no_program_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"TOXIPROXY_SERVER=/gone is not a program"):
        find_server(tmp_path, {"TOXIPROXY_SERVER": "/gone"}, lambda _: None)


def test_a_missing_server_is_an_error_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("TOXIPROXY_SERVER", raising=False)
    with pytest.raises(InstallError, match="phase5 chaos install"):
        require_server(tmp_path)


def test_without_go_there_is_nothing_to_build_with(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match="no Go"):
        install(tmp_path, lambda _: None)


def test_a_build_leaves_one_program_and_nothing_else(tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\n[ "$1" = install ] && echo built > "$GOBIN/server"\n')
    go.chmod(0o755)
    tools = tmp_path / "tools"
    assert install(tools, {"go": str(go)}.get).read_text() == "built\n"
    assert [path.name for path in tools.iterdir()] == ["toxiproxy-server"]


def test_a_build_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    go.chmod(0o755)
    tools = tmp_path / "tools"
    with pytest.raises(InstallError, match="exit 1: no network"):
        install(tools, {"go": str(go)}.get)
    assert list(tools.iterdir()) == []
