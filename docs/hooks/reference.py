"""A hook of MkDocs: `<!-- reference: NAME ... -->` in a page becomes what the code says of it.

So a page about names, defaults or meanings cannot be older than what it is about. Run by a plain
`mkdocs build`; nothing has to be made before.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import reference_commands
import reference_metrics
import reference_modules
import reference_plugin
import reference_states
import reference_verdict

#: What a page can ask for; words behind the name are its arguments.
REFERENCES: Final[Mapping[str, Callable[..., str]]] = {
    "markers": reference_plugin.markers,
    "fixtures": reference_plugin.fixtures,
    "options": reference_plugin.options,
    "hooks": reference_plugin.hooks,
    "commands": reference_commands.commands,
    "criteria": reference_verdict.criteria,
    "verdict": reference_verdict.verdict,
    "engine-metrics": reference_metrics.engine_metrics,
    "guard-metrics": reference_metrics.guard_metrics,
    "stages": reference_states.stages,
    "streams": reference_states.streams,
    "modules": reference_modules.modules,
    "api": reference_modules.api,
}

#: Alone in its line, so that a page can also quote one.
_MARK: Final = re.compile(r"^<!-- reference: (\S+)((?: \S+)*) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls it for each page, before anything else reads it."""
    return rendered(markdown)


def rendered(markdown: str) -> str:
    """A page with all that it asks for.

    Raises:
        KeyError: nothing has such a name; the build fails.
    """
    return _MARK.sub(lambda found: REFERENCES[found[1]](*found[2].split()), markdown)
