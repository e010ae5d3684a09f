"""The adapter alone: what all of the server around it is measured against.

A process that computes with it must be started with the environment of a runtime process, so
that mlx sees the same BLAS: `engine.runtime.child.worker_environment`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import RuntimeConfig
from engine.runtime.blas import THREADS_VARIABLE
from engine.runtime.cores import keep_to_core
from engine.runtime.light import leave_out_transformers

if TYPE_CHECKING:  # mlx must see the right BLAS, which only a child process has
    from engine.runtime.adapter import Adapter


def load_adapter(folder: Path, **options: Any) -> "Adapter":
    """The adapter over a model, set up and kept to cores as the runtime's process does."""
    leave_out_transformers()
    from engine.runtime.serving import load

    keep_to_core(int(os.environ.get(THREADS_VARIABLE, "0")))
    config = RuntimeConfig()
    return load(
        folder,
        max_rows=config.max_rows,
        prefill_chunk=config.prefill_chunk,
        prefill_rows=config.prefill_rows,
        prefix_bytes=0,
        **options,
    )
