"""A console whose texts are shown in the terminal's language."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from grpo_project.locale.language import shown


class TerminalConsole(Console):
    """Rich's console; what it is asked to print as text is translated, with its markup."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(shown(item) if isinstance(item, str) else item for item in objects), **options)
