import json
import os
import secrets
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from fake_engine import FakeEngine, running

KILLS = 200 if "PHASE5_FULL" in os.environ else 20
SCRIPT = Path(__file__).with_name("guard_crashes.py")
FLAG, OTHER = "ttft_pipeline", "http2_transport"


def test_a_guard_that_is_killed_at_random_forgets_nothing_and_counts_nothing_twice(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        engines = [
            stack.enter_context(
                running(
                    FakeEngine(
                        engine_id=name,
                        generation=1,
                        shares={FLAG: 10.0, OTHER: 10.0},
                        commit="abc",
                        config_sha256="def",
                    )
                )
            )
            for name in ("e1", "e2")
        ]
        urls = [engine.url for engine in engines]
        arguments = map(str, (tmp_path, KILLS, secrets.randbits(32), *urls))
        command = [sys.executable, str(SCRIPT), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        found = json.loads(done.stdout)
        for engine in engines:
            assert engine.flag(FLAG)["effective"] == 0
            assert engine.flag(OTHER)["effective"] == 10
    assert found["stages"] == {FLAG: "off", OTHER: "early"}
    assert found["epochs"] == {FLAG: 2, OTHER: 1}
    assert found["rollbacks"] == [[FLAG]]
    assert found["problems"] == []
    assert set(found["ledgers"]) == {f"{FLAG}-1.jsonl", f"{OTHER}-1.jsonl"}
    for ledger in found["ledgers"].values():
        assert ledger["rows"] > 10
        assert ledger["in_order"]
        assert ledger["problems"] == []
