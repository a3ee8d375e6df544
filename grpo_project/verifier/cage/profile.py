"""What kind of candidates a cage is for: who serves a child's order, what is loaded for it, what it may turn into."""

from __future__ import annotations

from typing import NamedTuple

PYTHON = "cage.candidate"


class Profile(NamedTuple):
    """Made on the trusted side, known to the zygote as plain values.

    A child serves its order in ``resident.run()``. Where ``programs`` are named it may then become one of them by
    ``execve``, in a folder of its own that it may write to (``WORK`` or, without a file system of its own, a temporary
    folder of the host's) and that is left as it is from one child to the next.
    """

    resident: str = PYTHON
    """Module below ``grpo_project.verifier`` with ``warm_up()``, called once, and ``run()``, called in each child."""
    site: str | None = None
    """Folder that ``packages`` are installed in."""
    packages: tuple[str, ...] = ()
    """Imported by the zygote before it isolates itself; their folders stay readable."""
    programs: tuple[str, ...] = ()
    """Files and folders that such a program needs, itself included."""
