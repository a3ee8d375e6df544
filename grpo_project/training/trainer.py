"""TRL's ``GRPOTrainer`` with three seams: where prompts come from, who judges, who is told.

Loss, generation, advantages, LoRA, DeepSpeed, FSDP and vLLM are TRL's. Prompts are drawn when a generation starts, not
when the data loader prefetches, so a curriculum acts at once and a resume has nothing to skip.

A group whose rewards are all alike has no advantage and teaches nothing. Its rows are left out of the loss, which is
the same without them, and ``max_resample`` puts newly drawn groups in the place of such groups (dynamic sampling, as
in DAPO, arXiv 2503.14476, with a bound).

Letters: B completions of this rank in a generation batch, W ranks, G completions of a group (``num_generations``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object
from datasets import Dataset

from grpo_project.curriculum import GroupResult
from grpo_project.generation import generation_batch as batches
from grpo_project.generation.generation_batch import Batch
from grpo_project.generation.padding_free import PaddingFreeBatches
from grpo_project.generation.uniforms import completion_key
from grpo_project.problems.problem import Problem
from grpo_project.rewards.choice import RewardFunction
from grpo_project.rewards.judging import text_of
from grpo_project.training import checkpoints
from grpo_project.training.atomic_save import AtomicSave
from grpo_project.training.interruptible import Interruptible, StopNow
from grpo_project.training.phases import Phases
from grpo_project.training.rollout import (
    FaultCounter,
    Rollout,
    RolloutBatch,
    called_by_trl,
    group_results,
    has_signal,
    pool_rounds,
)
from grpo_project.training.stop_request import StopRequest
from grpo_project.verifier.verdict import Judge

KEPT_ROWS = 100
"""Rows of transformers' ``log_history`` that stay: each is 1 to 1.5 kB of every checkpoint's ``trainer_state.json``."""


class ProblemSource(Protocol):
    """Which problem comes next. The same draws on every rank; its state travels in the checkpoint."""

    def draw(self, n: int) -> Sequence[Problem]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Observer(Protocol):
    """Told on every rank what became of each generation batch, for the optimizer step that trains on it first."""

    def restored(self) -> None:
        """A resume has put the problem source and the other parts back, before anything is generated."""

    def rollouts(self, step: int, rollouts: list[Rollout], results: list[GroupResult]) -> None:
        """This rank's B completions, and what became of all ranks' W*B/G groups."""

    def resampled(self, step: int, without_variance: int, groups: int, attempts: int) -> None:
        """After ``attempts`` redraws, the most allowed, so many of the ``groups`` are without variance."""


class CodeTrainer(AtomicSave, Interruptible, PaddingFreeBatches):
    """GRPO on problems with tests.

    Args:
        problem_source: draws the problem of each group.
        render: a problem's prompt as TRL takes it (messages or text).
        judge: judges completions.
        rewards: functions as TRL calls them, each with a name of its own; they get ``problem`` and ``verdict`` too.
        observer: told about each generation batch, on every rank.
        extra_metrics: what else belongs into each step's row of metrics.
        epoch_size: how many groups make an epoch.
        padding_free: generate and compute the loss without padding where the model allows; ``False`` leaves it to TRL.
        max_resample: how many times groups without variance are drawn anew for one generation batch.
        components: further parts with ``state_dict`` and ``load_state_dict`` that belong into the checkpoint, by name.
        max_infrastructure_rate: share of completions that the judge may fail to judge, for reasons of our own, of late.
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
        rewards: Sequence[RewardFunction],
        epoch_size: int,
        observer: Observer | None = None,
        padding_free: bool = True,
        max_resample: int = 0,
        max_infrastructure_rate: float = 0.02,
        extra_metrics: Callable[[], dict[str, float]] = dict,
        components: dict[str, Any] | None = None,
        stop_request: StopRequest | None = None,
        on_checkpoint: Callable[..., None] | None = None,
        **kwargs: Any,
    ) -> None:
        self.problem_source = problem_source
        self.render = render
        self.judge = judge
        self.observer = observer
        self.stop_request = stop_request
        self.on_checkpoint = on_checkpoint or (lambda *_, **__: None)
        self.extra_metrics = extra_metrics
        self.padding_free = padding_free
        self.max_resample = max_resample
        self.faults = FaultCounter(max_infrastructure_rate)
        self.phases = Phases()
        self._places: dict[int, int] = {}  # how many problems the step that is going on has drawn
        self.components = {"problem_source": problem_source, **(components or {})}
        # The loader only counts steps: its rows are empty, problems are drawn in `_roll_out`. An epoch is rounded up to
        # whole generation batches, because TRL's RepeatSampler (trl/trainer/utils.py) drops an incomplete one, and a
        # set smaller than a batch would train nothing.
        args = kwargs["args"]
        groups = args.generation_batch_size // args.num_generations
        counter = Dataset.from_dict({"prompt": [""] * (-(-epoch_size // groups) * groups)})
        heldout = None if args.eval_strategy == "no" else counter.select(range(1))
        functions = [called_by_trl(function) for function in rewards]
        super().__init__(reward_funcs=functions, train_dataset=counter, eval_dataset=heldout, **kwargs)

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()
        # Starting an epoch draws a seed for loader workers. From a generator of its own: the state before an epoch and
        # the state before its first step are then the same, wherever in the two a checkpoint is taken.
        getattr(loader, "base_dataloader", loader).generator = torch.Generator()
        return loader

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Not TRL's draft with each checkpoint (trl/trainer/grpo_trainer.py:3389): ours is written at the end."""

    def load_components(self, state: dict[str, Any]) -> None:
        super().load_components(state)
        if self.observer is not None:
            self.observer.restored()

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: Any, completions: Any, completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        """The completions are judged before any reward function asks for their verdicts."""
        self.agree_on_stop()  # after generation, which a rank that wants to stop has cut short
        # Unpadded ids, as generated: a padding token that is an end token too can't hide that a row was cut off.
        truncated = [not ids or ids[-1] not in self.eos_token_ids for ids in completion_ids_list]
        alone = self.args.world_size == 1
        with self.phases.timed("verification"), suppress(*(() if alone else (StopNow,))):
            inputs[0]["batch"].judge([text_of(completion) for completion in completions], truncated)
        self.agree_on_stop()
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    def on_progress(self) -> None:
        self.phases.moved()

    def between_tokens(self) -> None:
        if self.args.world_size == 1:
            self.check_stop()
        else:  # the others wait in this generation's gathering
            self.on_progress()

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.phases.timed("loss"):
            return super().training_step(*args, **kwargs)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> tuple[list[list[int]], Any]:
        with self.phases.timed("generation"):
            return super()._generate_single_turn(*args, **kwargs)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL's (grpo_trainer.py:1522), but for the shuffle: TRL's draws from each rank's own random state, so that
        another number of ranks trains other rows in each of the steps that one generation serves.
        """
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        per_generation, accumulation = self.args.steps_per_generation, self.args.gradient_accumulation_steps
        if self._step % (per_generation * self.num_iterations) == 0 or self._buffered_inputs is None:
            place = self._places.get(self.state.global_step, 0)  # a step may generate several times
            batch = self._generate_and_score_completions(generation_batch)
            count = len(batch["advantages"])
            # Where steps straddle generations, each micro-batch is what a step is elsewhere.
            steps = per_generation // (accumulation if per_generation % accumulation == 0 else 1)
            key = completion_key("order", self.args.seed, self.state.global_step, place, 0)
            rows = batches.shuffled_rows(key, count * self.accelerator.process_index, count, steps)
            size = count // per_generation
            parts = [step[i : i + size] for step in rows for i in range(0, len(step), size)]
            self._buffered_inputs = batches.split(batch, parts)
        return self._buffered_inputs[self._step % per_generation]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        logged = {name: len(values) for name, values in self._metrics["train"].items()}
        batch, results = self._roll_out(len(inputs))
        if self.max_resample:
            batch = self._resampled(batch, results, logged)
        del batch["rewards"]
        return batch

    def _roll_out(self, count: int) -> tuple[Batch, list[GroupResult | None]]:
        """Draw problems, generate and judge: this rank's ``count`` = B rows as tensors, and the groups of all ranks."""
        drawn, keys = self._draw(count)
        weights = dict(
            zip(self.reward_func_names, self.args.reward_weights or [1.0] * len(self.reward_funcs), strict=True)
        )
        rollout_batch = RolloutBatch(drawn, self.judge, weights, self.num_generations, self.check_stop)

        def begin(row: int, ids: list[int]) -> None:
            rollout_batch.begin(row, self._tokenizer.decode(ids, skip_special_tokens=True))

        with self.phases.timed("scoring"), self.generating(keys, begin, lambda: self.stop_wanted):
            batch = super()._generate_and_score_completions(rollout_batch.rows())
        summaries = gather_object(rollout_batch.summaries())
        self._metrics["train"]["verifier/infrastructure_rate"].append(self.faults.count(summaries))
        results = group_results(summaries, self.num_generations)
        first = count * self.accelerator.process_index
        groups = [summaries[i : i + self.num_generations] for i in range(0, len(summaries), self.num_generations)]
        live = [has_signal(group, self.multi_objective_aggregation) for group in groups]
        varied = [live[(first + row) // self.num_generations] for row in range(count)]
        # 1/3 three times has a mean in float32 that is not 1/3: TRL's advantages of such a group are not quite 0.
        batch["advantages"] = batch["advantages"] * torch.tensor(varied, device=batch["advantages"].device)
        batch["rewards"] = torch.tensor(rollout_batch.rewards, device=batch["advantages"].device)
        if any(completion.reward is None for completion in summaries):  # no verdict: no part in any term of the loss
            batch["completion_mask"][batch["rewards"].isnan()] = 0
            batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        if self.observer is not None:
            rollouts = rollout_batch.rollouts(batch["advantages"].tolist())
            judged = [result for result in results if result is not None]
            self.observer.rollouts(self.state.global_step + 1, rollouts, judged)
        return batch, results

    def _draw(self, count: int) -> tuple[list[tuple[Problem, Any]], list[int]]:
        """This rank's share, ``count`` = B rows, of the groups that all ranks draw alike: W * B / G problems.

        Beside them what each completion's random numbers come from: nothing that depends on the number of ranks.
        """
        problems = self.problem_source.draw(count * self.accelerator.num_processes // self.num_generations)
        prompts = [(problem, self.render(problem)) for problem in problems]
        step = self.state.global_step
        place = self._places.get(step, 0)
        self._places = {step: place + len(problems)}  # a step may draw several times
        rows = [(drawn, place + i, sample) for i, drawn in enumerate(prompts) for sample in range(self.num_generations)]
        first = count * self.accelerator.process_index
        mine = rows[first : first + count]
        keys = [completion_key("training", self.args.seed, step, place, sample) for _, place, sample in mine]
        return [drawn for drawn, _, _ in mine], keys

    def _resampled(self, batch: Batch, results: list[GroupResult | None], logged: dict[str, int]) -> Batch:
        """Put newly drawn groups in the place of this rank's groups without variance, ``max_resample`` times at most.

        Each time every rank draws as many groups as the rank that needs the most: all take part in generating.
        ``results`` are those of ``batch``; ``logged`` tells how many values each metric had before ``batch``.
        """
        ranks, idle, rounds = self.accelerator.num_processes, self._without_variance(results), [results]
        while len(rounds) <= self.max_resample and (wanted := max(gather_object([len(idle)]))):
            others, results = self._roll_out(wanted * self.num_generations)
            rounds.append(results)
            still_idle = self._without_variance(results)
            live = [place for place in range(wanted) if place not in still_idle]
            filled, idle = idle[: len(live)], idle[len(live) :]
            if filled:
                chosen = batches.take(others, self._rows_of(live[: len(filled)]))
                batch = batches.put(batch, self._rows_of(filled), chosen, self._tokenizer.pad_token_id)
        batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        missing, total = sum(gather_object([len(idle)])), len(batch["advantages"]) // self.num_generations * ranks
        if self.observer is not None:
            self.observer.resampled(self.state.global_step + 1, missing, total, len(rounds) - 1)
        rewards = self.accelerator.gather(batch["rewards"])
        rewards = rewards[~rewards.isnan()]
        if self.scale_rewards == "batch":  # each round was scaled by its own deviation
            grouped = batch["rewards"].view(-1, self.num_generations)
            centred = (grouped - grouped.nanmean(dim=1, keepdim=True)).flatten()
            batch["advantages"] = torch.where(batch["advantages"] == 0, 0.0, centred / (rewards.std() + 1e-4))
        judged = [[result for result in results if result is not None] for results in rounds]
        pool_rounds(self._metrics["train"], logged, judged)
        self._metrics["train"]["trained/reward"].append(rewards.mean().item())
        self._metrics["train"]["trained/reward_std"].append(rewards.std().item())
        self._metrics["train"]["trained/frac_reward_zero_std"].append(missing / total)
        self._metrics["train"]["resampled_groups"].append(float(sum(len(results) for results in rounds[1:])))
        return batch

    def _without_variance(self, results: list[GroupResult | None]) -> list[int]:
        """The places, counted from 0, of this rank's groups whose rewards are all alike."""
        mine = len(results) // self.accelerator.num_processes
        first = mine * self.accelerator.process_index
        return [place for place in range(mine) if (result := results[first + place]) is None or not result.varied]

    def _rows_of(self, places: list[int]) -> torch.Tensor:
        """The rows of this rank's groups at ``places``."""
        rows = [place * self.num_generations + i for place in places for i in range(self.num_generations)]
        return torch.tensor(rows, device=self.args.device)

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
            logs.update(self.phases.take())
        super().log(logs, start_time)
        del self.state.log_history[:-KEPT_ROWS]  # it is part of each checkpoint; all rows are in the journal

    def on_saved(self, checkpoint: Path, seconds: float) -> None:
        self.on_checkpoint("checkpoint", step=self.state.global_step, seconds=round(seconds, 3))

    def on_flush_failed(self, checkpoint: Path, reason: str) -> None:
        super().on_flush_failed(checkpoint, reason)
        self.on_checkpoint("checkpoint_failed", step=checkpoints.step_of(checkpoint), reason=reason)

    def on_save_failed(self, reason: str) -> None:
        super().on_save_failed(reason)
        self.on_checkpoint("checkpoint_failed", step=self.state.global_step, reason=reason)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self._saving(), self.phases.timed("save"):
            super()._save_checkpoint(model, trial)

    def settle(self) -> None:
        with self._saving():
            super().settle()

    def _saving(self) -> AbstractContextManager[None]:
        """The end of the grace period waits for what is done within."""
        return self.stop_request.saving() if self.stop_request else nullcontext()
