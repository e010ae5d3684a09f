"""A program whose owner is gone is asked to stop once."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

#: Counts how often it is asked, and waits for a second time as a server does that drains.
PROGRAM = """
    import signal, sys, time
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    print("ready", flush=True)
    while not asked:
        time.sleep(0.01)
    time.sleep(1)  # whoever asks twice has done so by then
    open(sys.argv[1], "w").write(str(len(asked)))
"""

#: Starts the leash as its owner, and dies.
OWNER = """
    import os, signal, subprocess, sys
    leash = [sys.executable, "-P", "-m", "pytest_phase5.leash", *sys.argv[1:]]
    child = subprocess.Popen(leash, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             start_new_session=True)
    child.stdout.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_program_whose_owner_is_killed_is_asked_once(tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(told)]
    owner = [sys.executable, "-P", "-c", textwrap.dedent(OWNER), *program]
    assert subprocess.run(owner, check=False, timeout=60).returncode == -signal.SIGKILL
    while not told.exists() or not told.read_text():
        pass
    assert told.read_text() == "1"
