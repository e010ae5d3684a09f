"""Whether `engine`, `gates` and `chaos` are the packages of this distribution.

The names are common. A project with an `engine/` of its own, in a folder that Python searches
first, would otherwise run its code in place of ours.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

#: The packages that stand beside this one, in a wheel as in a checkout.
PACKAGES: Final = ("engine", "gates", "chaos")

_HOME: Final = Path(__file__).resolve().parent.parent


class ForeignPackageError(ImportError):
    """A package of another project stands where ours should. The message names both paths."""


class ForeignPackage(NamedTuple):
    """One of our names that resolves to something else; `found` is None when to nothing."""

    name: str
    found: Path | None
    expected: Path

    def __str__(self) -> str:
        found = "is not found" if self.found is None else f"resolves to {self.found}"
        return (
            f"the package {self.name!r} {found}; expected: {self.expected} "
            "(rename yours, or start Python where it does not come first)"
        )


def foreign_packages(home: Path = _HOME) -> tuple[ForeignPackage, ...]:
    """Our names that do not resolve to packages in `home`. Imports none of them."""
    found = ((name, _location(name)) for name in PACKAGES)
    return tuple(
        ForeignPackage(name, location, home / name)
        for name, location in found
        if location != home / name
    )


def check_ours(error: type[Exception] = ForeignPackageError) -> None:
    """Refuse to go on among foreign packages.

    Args:
        error: what to raise; pytest's `UsageError` in the plugin.

    Raises:
        error: one line for each foreign package, with the path found and the path expected.
    """
    foreign = foreign_packages()
    if foreign:
        raise error("\n".join(str(package) for package in foreign))


def _location(name: str) -> Path | None:
    """The folder of a package, or the file of a module, that `import name` would give."""
    loaded = sys.modules.get(name)
    spec = find_spec(name) if loaded is None else loaded.__spec__
    if spec is None:
        file = getattr(loaded, "__file__", None)  # a module made by hand has no spec
        return Path(file).resolve() if file else None
    folders = spec.submodule_search_locations
    if folders:
        return Path(next(iter(folders))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None
