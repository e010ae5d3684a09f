"""A headless Chromium that is told what to do through a pipe, in its own protocol."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

#: Where it is installed: Debian, then macOS.
PLACES = (
    "chromium",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


@dataclass(slots=True)
class Browser:
    """One tab. What it reported meanwhile is kept in `events`."""

    write: IO[bytes]
    read: IO[bytes]
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.write.write(json.dumps(message).encode() + b"\0")
        self.write.flush()
        result: dict[str, Any] = self._until(lambda found: found.get("id") == self._number)[
            "result"
        ]
        return result

    def open(self, page: Path) -> None:
        """Load a page, with everything that it would report turned on."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=page.as_uri())
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._until(lambda found: found.get("method") == "Page.loadEventFired")

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def media(self, kind: str = "screen", scheme: str = "light") -> None:
        """Show the page on a screen or on paper, light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def tab(self) -> None:
        """Press the tabulator."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9
            )

    def _until(self, wanted: Any) -> dict[str, Any]:
        while True:
            found: dict[str, Any] = json.loads(self._message())
            assert "error" not in found, found
            if "method" in found:
                self.events.append(found)
            if wanted(found):
                return found

    def _message(self) -> bytes:
        message = bytearray()
        while (byte := self.read.read(1)) != b"\0":
            assert byte, "the browser ended"
            message += byte
        return bytes(message)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start one with a profile of its own, and end it."""
    program = next(filter(None, map(shutil.which, PLACES)), None)
    assert program, "no Chromium: sudo apt-get install chromium, or brew install --cask chromium"
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # It reads descriptor 3 and writes descriptor 4, whatever they were called before.
    script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    options = [
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
        *("--no-first-run", "--disable-background-networking", f"--user-data-dir={folder}"),
    ]
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", program, *options, "about:blank"],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        with os.fdopen(ours_out, "wb") as write, os.fdopen(ours_in, "rb") as read:
            found = Browser(write, read)
            target = found.call("Target.createTarget", url="about:blank")["targetId"]
            attached = found.call("Target.attachToTarget", targetId=target, flatten=True)
            found.session = attached["sessionId"]
            yield found
    finally:
        process.terminate()
        process.wait(30)
