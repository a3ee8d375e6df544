"""What several ranks (processes) say to each other beside what accelerate has a word for."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import PartialState


def gather_on_main(rows: list[Any]) -> list[Any]:
    """All ranks' rows, in the order of the ranks, on the main process; an empty list elsewhere.

    Unlike ``accelerate.utils.gather_object``, which gives every rank a copy of everything.
    """
    processes = PartialState()
    if processes.num_processes == 1:
        return rows
    everybody: list[Any] | None = [None] * processes.num_processes if processes.is_main_process else None
    torch.distributed.gather_object(rows, everybody)
    return [row for part in everybody or [] for row in part]
