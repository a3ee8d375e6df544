"""How fast and how patiently rows are delivered to W&B."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds, and the number of rows that may be unconfirmed (``window``).

    stall_s: no confirmation for so long while the server answers means that the client stopped uploading for good (it
    does after one 401, 403, 404, 409 or 413). silence_s: a delivery that says nothing for so long is frozen.
    """

    confirm_s: float = 5.0
    stall_s: float = 60.0
    silence_s: float = 90.0
    backoff_s: float = 2.0
    backoff_max_s: float = 60.0
    backup_s: float = 30.0
    init_s: float = 30.0
    finish_s: float = 20.0
    drain_s: float = 60.0
    window: int = 2000
