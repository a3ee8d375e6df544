"""The terminal in another language than English: message catalogues, and where a text is translated.

A text is translated at the edge, when it is shown, and not where it is made: the finished English sentence is matched
against the catalogue's templates. So the journal, ``run.json``, JSON output and exceptions stay in English whatever the
terminal speaks, and the code that makes texts knows no language. What no template fits is shown in English.

A catalogue is a gettext ``.po`` file below ``LANGUAGE/LC_MESSAGES``; its ``msgid`` are templates with places ``{1}``,
``{2}``, ... for the values (``tools/messages.py`` takes them out of the source). What the places of a template hold is
translated in turn, so that a reason within a sentence is too. Imports nothing of ours.
"""

from grpo_project.locale.catalogue import Catalogue, Translator
from grpo_project.locale.language import from_environment, shown, take_flag, use

__all__ = ["Catalogue", "Translator", "from_environment", "shown", "take_flag", "use"]
