"""The programs of their own that parts of the tool call, and how each system gets them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Keys of a `fix`: one command for each system.
DEBIAN: Final = "debian"
MACOS: Final = "macos"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program of its own that a part of the tool calls."""

    name: str
    lost: str
    fix: Mapping[str, str]
    also: tuple[str, ...] = ()  #: other names or places of the same program
    variable: str = ""  #: environment variable that may hold its path


PROGRAMS: Final = (
    Program(
        name="toxiproxy-server",
        lost="chaos experiments cannot disturb connections",
        fix={
            DEBIAN: "sudo apt-get install golang && phase5 chaos install",
            MACOS: "brew install shopify/shopify/toxiproxy",
        },
        variable="TOXIPROXY_SERVER",
    ),
    Program(
        name="prometheus",
        lost="alert rules are not tried on the real server",
        fix={DEBIAN: "sudo apt-get install prometheus", MACOS: "brew install prometheus"},
    ),
    Program(
        name="chromium",
        lost="reports are not looked at in a browser",
        fix={DEBIAN: "sudo apt-get install chromium", MACOS: "brew install --cask chromium"},
        also=(
            "chromium-browser",
            "google-chrome",
            "/Applications/Chromium.app/Contents/MacOS/Chromium",
        ),
    ),
    Program(
        name="haproxy",
        lost="the HTTP/2 share cannot be decided for clients that do not listen",
        fix={DEBIAN: "sudo apt-get install haproxy", MACOS: "brew install haproxy"},
        also=("/usr/sbin/haproxy",),  # not on the PATH of an ordinary user on Debian
    ),
    Program(
        name="nghttp",
        lost="HTTP/2 is not tried with a client that is not ours",
        fix={DEBIAN: "sudo apt-get install nghttp2-client", MACOS: "brew install nghttp2"},
    ),
    Program(
        name="uv",
        lost="set-up takes some minutes longer",
        fix=dict.fromkeys((DEBIAN, MACOS), "python -m pip install uv"),
        also=(str(Path(sys.executable).with_name("uv")),),
    ),
)
