"""What kind of candidates a cage is for: who serves a child's order, what is loaded for it, what it may turn into."""

from __future__ import annotations

from typing import NamedTuple

PYTHON, NUMPY = "python", "numpy"
"""Names of the profiles for Python programs: with the standard library alone, which every launcher knows, and more."""
CANDIDATE = "cage.candidate"


class Profile(NamedTuple):
    """Made in the trainer, known to keepers by its name and to the zygote as plain values. A judge can only name one:
    what it runs is not trusted with saying which folders a zygote imports from.

    A child serves its order in ``resident.run()``. Where ``programs`` are named it may then become one of them by
    ``execve``, in a folder of its own that it may write to (``WORK`` or, without a file system of its own, a scratch
    folder of the host's) and that is left as it is from one child to the next.
    """

    resident: str = CANDIDATE
    """Module below ``grpo_project.verifier`` with ``warm_up()``, called once, and ``run()``, called in each child."""
    site: str | None = None
    """Folder that ``packages`` are installed in."""
    packages: tuple[str, ...] = ()
    """Imported by the zygote before it isolates itself; their folders stay readable."""
    programs: tuple[str, ...] = ()
    """Files and folders that such a program needs, itself included."""
