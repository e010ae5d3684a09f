"""What a changed configuration may do to a flag, by the generation that it carries.

Every change of the rollout raises one number, the generation. So a file of a lower one is
stale: a replica that lags, or a copy that was put back. It may lower a share, since less of a
new feature is always safe, and never raise one. A raise at the same generation did not come
from the rollout but from somebody's hand: it serves, and is shown as unmanaged.
"""

from dataclasses import dataclass

from engine.core.flags import FlagState


@dataclass(frozen=True, slots=True)
class Served:
    """What serves for one flag.

    Attributes:
        delivered: the percentage that the rollout has brought; what is above it is unmanaged.
    """

    state: FlagState
    delivered: float

    @property
    def unmanaged(self) -> bool:
        """Whether more serves than the rollout has brought."""
        return self.state.percentage > self.delivered


def start(state: FlagState) -> Served:
    """What a file says at the start counts as brought by the rollout."""
    return Served(state, state.percentage)


def follow(old: Served, new: FlagState, *, from_generation: int, to_generation: int) -> Served:
    """What serves after a file of `to_generation` that asks for `new`."""
    if to_generation > from_generation:
        return start(new)
    # Another salt brings other keys in, so the share that was brought says nothing of them.
    same_keys = new.salt == old.state.salt
    if to_generation == from_generation:
        return Served(new, min(old.delivered, new.percentage) if same_keys else 0.0)
    lowest = min(old.state.percentage, new.percentage)
    return Served(FlagState(lowest, old.state.salt), min(old.delivered, lowest))
