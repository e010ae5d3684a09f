"""mlx-lm without transformers, which it imports only for its tokenizers.

The runtime process has no tokenizer: text stays in the front end. Leaving transformers out
halves the time from start to ready (1.6 to 0.8 CPU seconds of imports), and with it the pause
of every stream that is replayed after a death.
"""

import sys
from types import ModuleType
from typing import Final

#: What mlx-lm 0.32.2 names when it is imported; a test compares this with the installed one.
NAMES: Final = {
    "transformers": ("AutoTokenizer", "PreTrainedTokenizer", "PreTrainedTokenizerFast"),
    "transformers.tokenization_utils_base": ("PreTrainedTokenizerBase",),
}


class NoTokenizer:
    """Stands for each tokenizer class; it can be named, registered with, and nothing else.

    Raises:
        RuntimeError: always: text stays in the front end.
    """

    def __init__(self, *_: object, **__: object) -> None:
        raise RuntimeError("the runtime process has no tokenizer: text stays in the front end")

    @staticmethod
    def register(*_: object, **__: object) -> None:
        """Accept what mlx-lm registers when it is imported; nobody will look it up."""


def leave_out_transformers() -> None:
    """Put stand-ins in place of transformers; before mlx-lm is imported for the first time."""
    for module_name, names in NAMES.items():
        module = ModuleType(module_name)
        for name in names:
            setattr(module, name, NoTokenizer)
        sys.modules[module_name] = module
