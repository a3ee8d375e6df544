"""The run itself: TRL's trainer, thinly extended, and what makes a resume exact. ``run`` is all of it on a page.

Must not import ``commands``, ``reports`` or ``cli``.
"""
