"""Lay a copy of the configuration with the margins of the night: `nightly_policy.py FROM TO`.

The short gate allows 1.25 between two engines, which is what its few pairs can tell from 1. The
long runs of the night have the pairs for 1.10.
"""

import re
import shutil
import sys
from pathlib import Path

MARGIN = re.compile(r"^(    margin: )1\.25\b", re.MULTILINE)


def main(source: Path, target: Path) -> int:
    """Write `gates.yaml` and `runtime.yaml` into the target."""
    policy = (source / "gates.yaml").read_text(encoding="utf-8")
    stricter, changed = MARGIN.subn(r"\g<1>1.10", policy)
    if not changed:
        sys.stderr.write(f"{source / 'gates.yaml'}: no margin of 1.25 to tighten\n")
        return 1
    target.mkdir(parents=True, exist_ok=True)
    (target / "gates.yaml").write_text(stricter, encoding="utf-8")
    shutil.copyfile(source / "runtime.yaml", target / "runtime.yaml")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
