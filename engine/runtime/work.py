"""What every process of a pool serves, wherever it runs."""

from dataclasses import dataclass

from engine.config import RuntimeConfig
from engine.runtime.child import worker_environment, worker_options
from engine.runtime.models import ModelFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A model and how it is served; `draft` is the model that drafts, if one does."""

    model: ModelFiles
    config: RuntimeConfig
    prefix_bytes: int
    draft: ModelFiles | None = None

    def options(self, epoch: int) -> list[str]:
        """The arguments of a process."""
        draft = self.draft.path if self.draft else None
        return worker_options(self.model.path, self.config, self.prefix_bytes, epoch, draft)

    def environment(self) -> dict[str, str]:
        """The environment of a process.

        Raises:
            RuntimeStartError: see `worker_environment`.
        """
        here = self.config.replicas if self.config.backend == "local" else 1
        return worker_environment(self.model, here)
