"""Which rows of a generation each optimizer step trains on."""

import pytest
import torch

from grpo_project.generation.generation_batch import shuffled_rows, split

KEY, ROWS = 7, 48


def rows_of_all_ranks(ranks: int, steps: int) -> list[list[int]]:
    """For each step the rows that all ranks train on, in the batch of all ranks."""
    count = ROWS // ranks
    shared = [shuffled_rows(KEY, rank * count, count, steps) for rank in range(ranks)]
    return [
        sorted(rank * count + row for rank, mine in enumerate(shared) for row in mine[step]) for step in range(steps)
    ]


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("ranks", [2, 4])
def test_a_step_has_the_same_rows_on_any_number_of_ranks(ranks: int, steps: int) -> None:
    alone = rows_of_all_ranks(1, steps)
    assert rows_of_all_ranks(ranks, steps) == alone
    assert sorted(row for step in alone for row in step) == list(range(ROWS))
    assert {len(step) for step in alone} == {ROWS // steps}


def test_each_step_has_one_of_neighbouring_rows_by_chance() -> None:
    steps = shuffled_rows(KEY, 0, ROWS, 4)
    assert [row // 4 for row in steps[0]] == list(range(ROWS // 4))
    assert len({row % 4 for row in steps[0]}) == 4
    assert shuffled_rows(KEY + 1, 0, ROWS, 4) != steps


def test_a_batch_is_split_into_its_rows() -> None:
    batch = {"advantages": torch.arange(4.0), "completion_ids": torch.arange(8).view(4, 2), "n": torch.tensor(9)}
    first, second = split(batch, [[2, 0], [1, 3]])
    assert first["advantages"].tolist() == [2, 0]
    assert second["completion_ids"].tolist() == [[2, 3], [6, 7]]
    assert (first["n"], second["n"]) == (9, 9)
