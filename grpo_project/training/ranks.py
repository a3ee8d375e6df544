"""What several ranks (processes) say to each other beside what accelerate has a word for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from grpo_project.errors import GrpoError

T = TypeVar("T")


def gather_on_main(rows: list[Any]) -> list[Any]:
    """All ranks' rows, in the order of the ranks, on the main process; an empty list elsewhere.

    Unlike ``accelerate.utils.gather_object``, which gives every rank a copy of everything.
    """
    import torch
    from accelerate import PartialState

    processes = PartialState()
    if processes.num_processes == 1:
        return rows
    everybody: list[Any] | None = [None] * processes.num_processes if processes.is_main_process else None
    torch.distributed.gather_object(rows, everybody)
    return [row for part in everybody or [] for row in part]


@dataclass(frozen=True)
class _Refused:
    error: GrpoError


def decided_by_main(decide: Callable[[], T]) -> T:
    """What ``decide`` returns or raises on the main process, on every rank; called there alone.

    What it returns is pickled for the others, so it should be small; a lock stays with the main process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return decide()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    box: list[Any] = [None]
    mine: T | None = None
    if PartialState().is_main_process:
        try:
            mine = box[0] = decide()
        except GrpoError as error:
            box[0] = _Refused(error)
    broadcast_object_list(box)
    if isinstance(box[0], _Refused):
        raise box[0].error
    return box[0] if mine is None else mine
