"""TRL's ``GRPOTrainer`` with three seams: where prompts come from, who judges, who is told.

Loss, generation, advantages, LoRA, DeepSpeed, FSDP and vLLM are TRL's. Prompts are drawn when a generation starts, not
when the data loader prefetches, so a curriculum acts at once and a resume has nothing to skip.

A group whose rewards are all alike has no advantage and teaches nothing. Its rows are left out of the loss, which is
the same without them, and ``max_resample`` puts newly drawn groups in the place of such groups (dynamic sampling, as
in DAPO, arXiv 2503.14476, with a bound).

Letters: B completions of this rank in a generation batch, W ranks, G completions of a group (``num_generations``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object
from datasets import Dataset

from grpo_project.generation import generation_batch
from grpo_project.generation.generation_batch import Batch
from grpo_project.generation.ragged_batches import RaggedBatches
from grpo_project.problems.problem import Problem
from grpo_project.rewards import RewardFunction
from grpo_project.training.atomic_save import AtomicSave
from grpo_project.training.guidance import group_result
from grpo_project.training.interruptible import Interruptible
from grpo_project.training.rollout import Rollout, completion_text
from grpo_project.training.stop_request import StopRequest
from grpo_project.verifier.verdict import Job, Judge, Verdict


class ProblemSource(Protocol):
    """Which problem comes next. The same draws on every rank; its state travels in the checkpoint."""

    def draw(self, n: int) -> Sequence[Problem]: ...

    def observe_resampling(self, step: int, without_variance: int, groups: int, attempts: int) -> None:
        """After ``attempts`` redraws, the most allowed, so many of the ``groups`` are without variance."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


RolloutListener = Callable[[int, list[list[Rollout]]], None]
"""Called on every rank as ``(step, groups)``: the step that trains on them, and all ranks' W*B/G groups of G."""


class VerifiedReward:
    """The reward function given to TRL: judge each completion and turn its verdict into a number.

    The judge can begin with a completion while others are still being generated.
    """

    def __init__(self, judge: Judge, reward: RewardFunction, check_stop: Callable[[], None]) -> None:
        self.judge = judge
        self.reward = reward
        self.check_stop = check_stop
        self.__name__ = reward.__name__  # TRL's name for its metrics: rewards/<name>/mean
        self.verdicts: list[Verdict] = []  # of the latest call, in order
        self._begun: dict[str, Iterable[Verdict]] = {}

    def begin(self, problem: Problem, completion: str) -> None:
        """Judge a completion in the background: it will be asked for by the next call, unless training stops."""
        job = Job(problem, completion)
        if job.id not in self._begun:
            self._begun[job.id] = self.judge.stream([job])

    def forget(self) -> None:
        """Nobody will ask for what was begun."""
        self._begun = {}

    def __call__(self, completions: list[Any], problem: list[Problem], **_: Any) -> list[float]:
        jobs = [Job(p, completion_text(c)) for p, c in zip(problem, completions, strict=True)]
        begun = [self._begun[name] for name in dict.fromkeys(job.id for job in jobs) if name in self._begun]
        rest = self.judge.stream([job for job in jobs if job.id not in self._begun])
        verdicts: dict[str, Verdict] = {}
        for verdict in chain(*begun, rest):
            verdicts[verdict.job_id] = verdict
            self.check_stop()
        self.forget()
        self.verdicts = [verdicts[job.id] for job in jobs]
        return [self.reward(verdict) for verdict in self.verdicts]


class CodeTrainer(AtomicSave, Interruptible, RaggedBatches):
    """GRPO on problems with tests.

    Args:
        problem_source: draws the problem of each group.
        render: a problem's prompt as TRL takes it (messages or text).
        judge: judges completions.
        reward: a verdict's worth.
        on_rollouts: told about each generation batch, on every rank.
        extra_metrics: what else belongs into each step's row of metrics.
        epoch_size: how many groups make an epoch.
        ragged: generate and compute the loss without padding where the model allows; ``False`` leaves it to TRL.
        max_resample: how many times groups without variance are drawn anew for one generation batch.
        components: further parts with ``state_dict`` and ``load_state_dict`` that belong into the checkpoint, by name.
        stop_request: when it is pending, training stops within the step, in a state that resumes exactly.
        on_checkpoint: told as ``(event, step=, **fields)`` that a checkpoint was saved, or could not be.
        **kwargs: TRL's (``model``, ``args``, ``processing_class``, ``callbacks``, ``peft_config`` ...).
    """

    def __init__(
        self,
        *,
        problem_source: ProblemSource,
        render: Callable[[Problem], Any],
        judge: Judge,
        reward: RewardFunction,
        epoch_size: int,
        ragged: bool = True,
        max_resample: int = 0,
        on_rollouts: RolloutListener | None = None,
        extra_metrics: Callable[[], dict[str, float]] = dict,
        components: dict[str, Any] | None = None,
        stop_request: StopRequest | None = None,
        on_checkpoint: Callable[..., None] | None = None,
        **kwargs: Any,
    ) -> None:
        self.problem_source = problem_source
        self.render = render
        self.verified_reward = VerifiedReward(judge, reward, self.check_stop)
        self.stop_request = stop_request
        self.on_checkpoint = on_checkpoint or (lambda *_, **__: None)
        self.on_rollouts = on_rollouts
        self.extra_metrics = extra_metrics
        self.ragged = ragged
        self.max_resample = max_resample
        self.components = {"problem_source": problem_source, **(components or {})}
        # The loader only counts: its rows are tickets, replaced by drawn problems in `_draw_inputs`. An epoch is
        # rounded up to whole generation batches: TRL drops the rest, and a set smaller than a batch trains nothing.
        args = kwargs["args"]
        groups = args.generation_batch_size // args.num_generations
        tickets = Dataset.from_dict({"prompt": [""] * (-(-epoch_size // groups) * groups)})
        heldout = None if args.eval_strategy == "no" else tickets.select(range(1))
        super().__init__(reward_funcs=[self.verified_reward], train_dataset=tickets, eval_dataset=heldout, **kwargs)

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()
        # Starting an epoch draws a seed for loader workers. From a generator of its own: the state before an epoch and
        # the state before its first step are then the same, wherever in the two a checkpoint is taken.
        getattr(loader, "base_dataloader", loader).generator = torch.Generator()
        return loader

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        batch, groups = self._roll_out(len(inputs))
        if self.max_resample:
            batch = self._resampled(batch, self._without_variance(groups))
        return batch

    def _roll_out(self, count: int) -> tuple[Batch, list[list[Rollout]]]:
        """Draw problems, generate and judge: this rank's ``count`` rows, and the groups of all ranks."""
        rows = self._draw_inputs(count)

        def begin(row: int, ids: list[int]) -> None:
            self.verified_reward.begin(rows[row]["problem"], self._tokenizer.decode(ids, skip_special_tokens=True))

        self.verified_reward.forget()  # of a step that was stopped
        self.on_completion = begin
        batch = super()._generate_and_score_completions(rows)
        self.on_completion = None
        ended = torch.isin(batch["completion_ids"], torch.tensor(self.eos_token_ids, device=self.args.device))
        groups = self._grouped_rollouts(rows, truncated=(~ended.any(dim=1)).tolist())
        if self.on_rollouts is not None:
            self.on_rollouts(self.state.global_step + 1, groups)
        return batch, groups

    def _resampled(self, batch: Batch, dead: list[int]) -> Batch:
        """Put newly drawn groups in the place of this rank's ``dead`` ones, at most ``max_resample`` times.

        Each time every rank draws as many groups as the rank that needs the most: all take part in generating.
        """
        ranks, attempts, drawn = self.accelerator.num_processes, 0, 0
        while attempts < self.max_resample and (wanted := max(gather_object([len(dead)]))):
            others, groups = self._roll_out(wanted * self.num_generations)
            idle = self._without_variance(groups)
            live = [place for place in range(wanted) if place not in idle]
            filled, dead = dead[: len(live)], dead[len(live) :]
            if filled:
                chosen = generation_batch.take(others, self._rows_of(live[: len(filled)]))
                batch = generation_batch.put(batch, self._rows_of(filled), chosen, self._tokenizer.pad_token_id)
            attempts += 1
            drawn += wanted * ranks
        batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        missing, total = sum(gather_object([len(dead)])), len(batch["advantages"]) // self.num_generations * ranks
        self.problem_source.observe_resampling(self.state.global_step + 1, missing, total, attempts)
        self._metrics["train"]["resampled_groups"].append(float(drawn))
        return batch

    def _without_variance(self, groups: list[list[Rollout]]) -> list[int]:
        """The places, counted from 0, of this rank's groups whose rewards are all alike."""
        mine = len(groups) // self.accelerator.num_processes
        first = mine * self.accelerator.process_index
        return [i for i in range(mine) if not group_result(groups[first + i]).varied]

    def _rows_of(self, places: list[int]) -> torch.Tensor:
        """The rows of this rank's groups at ``places``."""
        rows = [place * self.num_generations + i for place in places for i in range(self.num_generations)]
        return torch.tensor(rows, device=self.args.device)

    def _compute_loss(self, model: Any, inputs: Batch) -> torch.Tensor:
        """TRL's loss, computed over the rows that have an advantage: the others have no part in its gradient.

        TRL's metrics of this pass (entropy, clip ratios) are means over the rows that were computed.
        """
        if not (self.model.training and self._only_advantages_count):
            return super()._compute_loss(model, inputs)
        # As many on every rank, and at least one: all of them take part in gathering metrics and in the backward pass.
        most = max(1, *gather_object([int(inputs["advantages"].count_nonzero())]))
        rows = generation_batch.live_rows(inputs, at_least=most)
        if len(rows) == len(inputs["advantages"]):
            return super()._compute_loss(model, inputs)
        kept = generation_batch.take(inputs, rows)
        return super()._compute_loss(model, kept) * generation_batch.share_of_loss(self.loss_type, kept, inputs)

    @property
    def _only_advantages_count(self) -> bool:
        """Whether the loss has no term that a row without advantage contributes to."""
        more = self._entropy_bonus_enabled or self.aux_loss_enabled or self.top_entropy_quantile < 1.0
        return self.beta == 0.0 and not more

    def _draw_inputs(self, count: int) -> list[dict[str, Any]]:
        """This rank's share, ``count`` = B rows, of the groups that all ranks draw alike: W * B / G problems."""
        problems = self.problem_source.draw(count * self.accelerator.num_processes // self.num_generations)
        rows = [
            {"prompt": prompt, "problem": problem}
            for problem, prompt in ((p, self.render(p)) for p in problems)
            for _ in range(self.num_generations)
        ]
        first = count * self.accelerator.process_index
        return rows[first : first + count]

    def _grouped_rollouts(self, rows: list[dict[str, Any]], truncated: list[bool]) -> list[list[Rollout]]:
        """All ranks' rollouts of the batch just scored, in the order of the draws; ``truncated``: of this rank's B."""
        size = len(rows) * self.accelerator.num_processes
        # TRL's own log holds the gathered batch, before it is shuffled for training.
        advantages = list(self._logs["advantages"])[-size:]
        completions = list(self._logs["completion"])[-size:]
        first = len(rows) * self.accelerator.process_index
        local = [
            Rollout(
                problem=row["problem"],
                prompt=row["prompt"],
                completion=completion_text(completions[first + i]),
                verdict=verdict,
                reward=self.verified_reward.reward(verdict),
                advantage=advantages[first + i],
                truncated=truncated[i],
            )
            for i, (row, verdict) in enumerate(zip(rows, self.verified_reward.verdicts, strict=True))
        ]
        everywhere = gather_object(local)
        return [everywhere[i : i + self.num_generations] for i in range(0, size, self.num_generations)]

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """What ``--eval_strategy`` asks for is answered by the evaluation callback: TRL's own loss says nothing.

        ``metric_for_best_model`` and early stopping thereby work on real pass rates.
        """
        metrics: dict[str, float] = {}
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)  # changes `control` in place
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:  # a step's row, not an evaluation's or the closing one
            logs.update(self.extra_metrics())
        super().log(logs, start_time)

    def on_saved(self, checkpoint: Path, deleted: list[Path], seconds: float) -> None:
        names = [path.name for path in deleted]
        self.on_checkpoint("checkpoint", step=self.state.global_step, deleted=names, seconds=round(seconds, 3))

    def on_save_failed(self, reason: str) -> None:
        super().on_save_failed(reason)
        self.on_checkpoint("checkpoint_failed", step=self.state.global_step, reason=reason)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self.stop_request.saving() if self.stop_request else nullcontext():
            super()._save_checkpoint(model, trial)
