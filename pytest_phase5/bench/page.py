"""The page of the benchmarks, made from the files of their results.

    python -m pytest_phase5.bench.page docs/benchmarks docs/benchmarks.md

The same files give the same bytes. What only a person can say stands in `notes.txt` beside them.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pytest_phase5.bench import tables
from pytest_phase5.bench.targets import Files, standing
from pytest_phase5.load.grids import Grid

NOTES: Final = "notes.txt"
_HEAD: Final = """\
<!-- Made by `python -m pytest_phase5.bench.page docs/benchmarks docs/benchmarks.md`. -->

# Benchmarks

`phase5 bench` starts `mlx_lm.server` of the installed mlx-lm, this engine with all flags off and
with all flags on, and asks one after the other the same, in rounds whose order is drawn:

<!-- not run: minutes each; tests/integration/test_bench.py runs a small one -->
```bash
./dev run phase5 bench --workload chat --streams 8 --streams 32
./dev run phase5 bench --model smollm2-135m --workload shared --rounds 4
./dev run phase5 bench --limit 32 --limit 100
```

It prints the tables below, and writes `bench.json` and `bench.svg` into `--report`. A run with one
number of streams takes one to three minutes. Exit status 1 means that a server answered otherwise
than mlx-lm, or did other work.

## How the sides are kept equal

- The same model files, the same OpenBLAS preload and number of its threads, the same prompts,
  the same client. All answers are streamed, greedy, and 16 tokens long on both sides, which is
  checked for every answer; a round in which one is not does not count.
- One connection for each request on both sides: `mlx_lm.server` speaks HTTP/1.0 and keeps none
  open.
- `peer` is `mlx_lm.server` as it comes, `peer-wide` with `--decode-concurrency` as wide as there
  are streams, where that is more than its default of 32. In each measure the better of the two is
  what this engine is divided by.
- All servers run from the first round to the last; one at a time is asked. Each is warmed up with
  the same requests. No two rounds ask the same; within a round every server is asked the same.
- Before the rounds each server answers eight prompts greedily, four at once. The answers must be
  those of mlx-lm's own generation, word for word.
- A ratio is the median of the rounds, with Student's 95 % interval on the logarithms of the pairs.
- A request that never had a token waited at least until the round was over (12 s with `tiny`), and
  counts with that; so ratios against a peer with timeouts are less than the truth.
"""


def page(folder: Path) -> str:
    """The page from the results in a folder."""
    files = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }
    notes = (folder / NOTES).read_text(encoding="utf-8")
    runs = (_run(name, files[name]) for name in files)
    parts = (_HEAD, _targets(files), notes, _prefill(files.get("prefill")), *runs)
    return "\n".join(part for part in parts if part)


def _targets(files: Files) -> str:
    rows = []
    for target, found in standing(files):
        said = "not measured" if found is None else found[1]
        met = "" if found is None else ("yes" if target.met(found[0]) else "**no**")
        rows.append((target.text, target.asked, said, met))
    columns = ("measure", "asked", "reached (95 %)", "met")
    return "## Asked and reached\n\n" + markdown(Grid(columns, tuple(rows), 1))


def _prefill(facts: Mapping[str, Any] | None) -> str:
    """What computing together costs, and where the time goes: behind the rows of the real model."""
    if facts is None:
        return ""
    lines = [_together(rows, int(rows), row) for rows, row in facts["rows"].items()]
    split, most = facts["split"], max(map(int, facts["rows"]))
    lines.append(_together(f"{most}, in {split['processes']} processes", most, split))
    columns = ("prompts read together", "ms", "ms each", "decoding step of as many, ms")
    told = (
        f"`{facts['model']}`, {facts['new']} new tokens of each prompt behind {facts['known']} "
        "that are known, in mlx-lm's model alone (`tests/performance/bench_prefill.py`). The last "
        "row has one BLAS thread in each process, the others two."
    )
    parts = [(name, f"{took:.1f}") for name, took in facts["operations"].items()]
    where = f"Where the time of one layer goes, for {most} prompts:"
    return (
        f"## Profile: what the model computes\n\n{told}\n\n"
        f"{markdown(Grid(columns, tuple(lines), 1))}\n{where}\n\n"
        f"{markdown(Grid(('part of a layer', 'ms'), tuple(parts), 1))}"
    )


def _together(name: str, rows: int, took: Mapping[str, Any]) -> tuple[str, ...]:
    read, step = took["read_ms"], took["step_ms"]
    return (name, f"{read:.0f}", f"{read / rows:.0f}", f"{step:.0f}")


def _run(name: str, facts: Mapping[str, Any]) -> str:
    if "cells" not in facts:
        return ""
    return "\n".join(_told(name, facts))


def _told(name: str, facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"## Run `{name}`\n"
    yield from (f"- {line}" for line in tables.heading(facts))
    if facts.get("engine_config"):
        yield f"- configuration of both engines of ours: `{'; '.join(_lines(facts))}`"
    yield from (f"- {reason}" for reason in tables.reasons(facts))
    for grid in (tables.arms(facts), tables.ratios(facts), tables.limit(facts)):
        if grid.rows:
            yield "\n" + markdown(grid).rstrip("\n")
    yield ""


def _lines(facts: Mapping[str, Any]) -> list[str]:
    return str(facts["engine_config"]).splitlines()


def markdown(grid: Grid) -> str:
    """A grid as a table; figures to the right."""
    rule = ["---" if place < grid.names else "--:" for place in range(len(grid.columns))]
    lines = (grid.columns, rule, *grid.rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(folder: Path, out: Path) -> None:
    """Write the page."""
    out.write_text(page(folder), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
