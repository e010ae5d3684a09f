"""Control groups (version 2) of this process, and what memory they allow."""

from pathlib import Path


def own_groups(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[Path]:
    """The folder of our control group and those above it; inside a container the root is ours."""
    lines = membership.read_text().splitlines() if membership.is_file() else []
    name = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = root / name
    return [group, *(parent for parent in group.parents if parent.is_relative_to(root))]


def memory_limit(group: Path) -> int | None:
    """Bytes that a control group may hold; None without a limit."""
    file = group / "memory.max"
    text = file.read_text().strip() if file.is_file() else "max"
    return None if text == "max" else int(text)
