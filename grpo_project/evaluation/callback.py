"""Evaluates the model on held-out problems while it trains: at step 0, every N steps and at the last step, once each.

Works in any Hugging Face ``Trainer``. What it measures goes to ``state.log_history``, to the run's journal (or, in a
script without one, to W&B through ``safe_wandb_log``) and, problem by problem, into ``evaluations/``. The weights, the
random state and so the whole course of training are the same with and without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from grpo_project.errors import ConfigError, InfrastructureError
from grpo_project.evaluation.best_model import as_trainer_metrics, follow_best, wanted_metric
from grpo_project.evaluation.evaluator import EvaluationAbandoned, Evaluator, resolve_ks, resolve_temperature
from grpo_project.evaluation.history import EvaluationHistory
from grpo_project.evaluation.measurement import evaluate_on_all_ranks, is_sharded, measure_persistently
from grpo_project.evaluation.result import EvaluationResult, Metrics
from grpo_project.evaluation.trainer_set import Available, available_problems
from grpo_project.generation.request import Generate
from grpo_project.problems.identity import dataset_fingerprint
from grpo_project.problems.problem import Problem
from grpo_project.problems.selection import select_problems
from grpo_project.record.evaluations import EvaluationStore
from grpo_project.record.journal import Journal
from grpo_project.record.run_directory import MAIN_METRIC
from grpo_project.tracking.manager import get_wandb_sync_manager
from grpo_project.verifier.verdict import Judge

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.getLogger("grpo_project")

DEFAULT_MAX_NEW_TOKENS = 256
HISTORY_KEY = "evaluation_history"  # in trainer_state.json, under "stateful_callbacks"


class EnhancedInferenceCallback(TrainerCallback):
    """Real pass rates of the model in training, with their uncertainty.

    Args:
        eval_every_n_steps: N, in optimizer steps; 0 turns the callback off.
        max_samples: how many problems, balanced over the levels and fixed by ``seed``.
        problems: the held-out set to choose from. Default: the evaluation set of a trainer that was given to ``bind``,
            if its rows have tests (native, HumanEval or MBPP rows; a set or several by name); else the built-in
            held-out problems, and every record says so.
        num_samples: completions of each problem.
        temperature: 0 is greedy. Default: greedy for one completion, 0.8 for several.
        verifier: judges the completions. Default: a ``Verifier`` of its own, closed with the training.
        seed: chooses the problems and seeds the sampling; training never sees it.
        levels: only these levels.
        batch_size: completions generated at once on each rank; halved where the memory does not suffice.
        max_new_tokens: length limit. Default: the trainer's ``max_completion_length``, else 256.
        ks: which pass@k to report. Default: those of 1, 5, 10 that ``num_samples`` allows.
        tokenizer: default: the trainer's ``processing_class``.
        journal: the run's journal, on the main process.
        on_result: called with each evaluation, on every rank.
        stop_requested: asked at each generated token (unless the weights are sharded); True abandons the evaluation, so
            that a pre-empted run can save its checkpoint in time. The resumed run makes it before its first step.
        generate: makes the completions in the model's place, such as an ``Endpoint``. Whether it serves the weights as
            they are in training is then up to whoever serves them.

    Raises:
        ConfigError: arguments that contradict each other; in ``on_train_begin`` also problems or a tokenizer that
            can't be used.
    """

    def __init__(
        self,
        eval_every_n_steps: int = 25,
        max_samples: int = 8,
        *,
        problems: Sequence[Problem] | None = None,
        num_samples: int = 1,
        temperature: float | None = None,
        verifier: Judge | None = None,
        seed: int = 0,
        levels: Sequence[str] | None = None,
        batch_size: int = 64,
        max_new_tokens: int | None = None,
        ks: Sequence[int] | None = None,
        system_prompt: str | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        journal: Journal | None = None,
        on_result: Callable[[EvaluationResult], None] | None = None,
        stop_requested: Callable[[], bool] | None = None,
        generate: Generate | None = None,
    ) -> None:
        if eval_every_n_steps < 0:
            raise ConfigError(f"eval_every_n_steps is {eval_every_n_steps}; it must be 0 (never) or more")
        for name, value in {"max_samples": max_samples, "num_samples": num_samples, "batch_size": batch_size}.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        self.eval_every_n_steps = eval_every_n_steps
        self.max_samples = max_samples
        self.problems = problems
        self.num_samples = num_samples
        self.temperature = resolve_temperature(num_samples, temperature)
        self.ks = resolve_ks(num_samples, ks)
        self.verifier = verifier
        self.seed = seed
        self.levels = levels
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.system_prompt = system_prompt
        self.tokenizer = tokenizer
        self.journal = journal
        self.on_result = on_result
        self.timed: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()
        """Measures a phase by its name, where whoever trains keeps account of time."""
        self.stop_requested = stop_requested
        self.generate = generate
        self.history = EvaluationHistory()
        self.result: EvaluationResult | None = None
        """The newest evaluation of this process."""
        self._trainer: Trainer | None = None
        self._evaluator: Evaluator | None = None
        self._store: EvaluationStore | None = None
        self._own_verifier: Any = None
        self._resumed_at: int | None = None
        self._without_number: int | None = None  # the step whose evaluation failed or was abandoned
        self.abandoned: int | None = None
        """The step whose evaluation a stop request ended, until it is made."""

    def bind(self, trainer: Trainer) -> None:
        """Give the callback its trainer: needed under FSDP and DeepSpeed, and to evaluate on its evaluation set."""
        self._trainer = trainer

    # When to evaluate

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        processing_class: Any = None,
        **_: Any,
    ) -> None:
        if not self.eval_every_n_steps:
            return
        self._take_over_history(state)
        self._prepare(args, state, self.tokenizer or processing_class)
        self.result = self._without_number = self.abandoned = None
        self._resumed_at = state.global_step
        if state.global_step == 0:
            self._evaluate("before training", args, state, control, model)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Make up for an evaluation that was due at the resumed step and got lost.

        Not in ``on_train_begin``: by now the trainer has put everything back that its checkpoint holds, so whoever
        listens through ``on_result`` keeps what it hears.
        """
        step = state.global_step
        if not self.eval_every_n_steps or step == 0 or step != self._resumed_at:
            return
        if self._scheduled(step, state) and not self.history.has(step):
            self._evaluate("it was due at the resumed step and is not on record", args, state, control, model)
        else:
            logger.debug("step %d: resumed; evaluations on record: %s", step, self.history.steps)
        self._resumed_at = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        step = state.global_step
        if not self.eval_every_n_steps:
            return
        needed = control.should_evaluate and wanted_metric(args) is not None  # by the choice of the best model
        if not self._scheduled(step, state) and not needed:
            logger.debug("step %d: no evaluation; one is due every %d steps", step, self.eval_every_n_steps)
        elif self.history.has(step):
            logger.debug("step %d: no evaluation; this step is on record already", step)
        else:
            reason = "last step" if step >= state.max_steps else f"every {self.eval_every_n_steps} steps"
            reason = f"the trainer needs {wanted_metric(args)}" if needed else reason
            self._evaluate(reason, args, state, control, model)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Add this step's metrics to the trainer's own, which choose the best model and stop early.

        transformers hands the very dict over from which it then reads ``metric_for_best_model``.
        """
        if not self.eval_every_n_steps or metrics is None or self._evaluator is None:
            return
        step = state.global_step
        wanted = wanted_metric(args)
        missing = wanted is not None and wanted not in metrics and not self.history.has(step)
        if missing and self._without_number != step:
            self._evaluate(f"the trainer needs {wanted}", args, state, control, model)
        if self.result is not None and self.result.step == step:
            metrics.update(as_trainer_metrics(self.result.metrics()))
        elif wanted is not None and self._without_number == step:
            # Said aloud already. NaN is never better than the best; a missing name would end the training.
            metrics.setdefault(wanted, float("nan"))

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """``--eval_strategy epoch``: the metric is there before the trainer chooses by it."""
        wanted = wanted_metric(args)
        due = self.eval_every_n_steps and control.should_evaluate and wanted is not None
        if due and not self.history.has(state.global_step) and self._without_number != state.global_step:
            self._evaluate(f"the trainer needs {wanted}", args, state, control, model)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._own_verifier is not None:
            self._own_verifier.close()
            self._own_verifier = None
        self._evaluator = None

    def _scheduled(self, step: int, state: TrainerState) -> bool:
        return step % self.eval_every_n_steps == 0 or step >= state.max_steps

    # How to evaluate

    def _prepare(self, args: TrainingArguments, state: TrainerState, tokenizer: Any) -> None:
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor holds one
        if tokenizer is None and self.generate is None:
            raise ConfigError(
                "EnhancedInferenceCallback needs a tokenizer: pass processing_class=TOKENIZER to the Trainer, "
                "or tokenizer=TOKENIZER to the callback"
            )
        if self.generate is None and tokenizer.pad_token_id is None:
            raise ConfigError("the tokenizer has no padding token; set tokenizer.pad_token = tokenizer.eos_token")
        if self._trainer is None and is_sharded():
            raise ConfigError(
                "the model's weights are sharded (FSDP or DeepSpeed): call callback.bind(trainer) before training"
            )
        available = available_problems(
            self.problems, self._trainer, evaluates=args.eval_strategy != IntervalStrategy.NO
        )
        problems = select_problems(available.problems, self.max_samples, self.seed, self.levels)
        self._evaluator = Evaluator(
            problems,
            tokenizer,
            self.verifier or self._start_verifier(),
            num_samples=self.num_samples,
            temperature=self.temperature,
            seed=self.seed,
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens
            or getattr(args, "max_completion_length", None)
            or DEFAULT_MAX_NEW_TOKENS,
            system_prompt=self.system_prompt,
            should_stop=None if is_sharded() else self.stop_requested,
            generate=self.generate,
        )
        if state.is_world_process_zero:
            attempt = self.journal.attempt if self.journal else None
            self._store = EvaluationStore(str(args.output_dir), attempt)
        self._note_problems(problems, available, state)

    def _start_verifier(self) -> Judge:
        from grpo_project.verifier import Verifier

        self._own_verifier = Verifier()
        return self._own_verifier

    def _note_problems(self, problems: Sequence[Problem], available: Available, state: TrainerState) -> None:
        """Record the choice; comparisons with evaluations of other problems would mean nothing."""
        level = logging.WARNING if available.unexpected else logging.INFO
        logger.log(level, "evaluating on %d problems: %s", len(problems), available.reason)
        chosen = dataset_fingerprint(problems)
        if self.history.problems not in (None, chosen):
            logger.warning("the evaluation problems are not those of the checkpoint: comparisons start anew")
            self.history.forget_rates()
        self.history.problems = chosen
        source = "+".join(sorted({problem.source for problem in problems}))
        ids = [problem.id for problem in problems]
        about = {"source": source, "reason": available.reason, "seed": self.seed, "fingerprint": chosen, "ids": ids}
        self._event(state, "evaluation_problems", **about)

    def _evaluate(
        self, reason: str, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any
    ) -> None:
        step = state.global_step
        logger.debug("step %d: evaluating (%s)", step, reason)
        try:
            with self.timed("evaluation"):
                result = measure_persistently(
                    self._running, lambda: self._measure(step, args, model), partial(self._warn, state, step)
                )
        except EvaluationAbandoned:
            self._without_number = self.abandoned = step
            logger.info("step %d: evaluation abandoned to stop in time; the resumed run makes it", step)
            self._event(state, "evaluation_abandoned", step=step)
            return
        except InfrastructureError as error:
            self._without_number = step
            self.history.add_failure(step, str(error))
            state.stateful_callbacks[HISTORY_KEY] = self.history.to_dict()
            logger.warning("step %d: NO evaluation: %s", step, error)
            self._event(state, "evaluation_failed", step=step, reason=str(error))
            return
        self.abandoned = None
        metrics = self._keep(result, state)
        for warning in result.warnings():
            self._warn(state, step, "evaluation_suspect", warning, reason=warning)
        follow_best(args, state, control, metrics)
        if self.on_result is not None:
            self.on_result(result)

    @property
    def _running(self) -> Evaluator:
        assert self._evaluator is not None
        return self._evaluator

    def _measure(self, step: int, args: TrainingArguments, model: Any) -> EvaluationResult:
        trainer = self._trainer
        return evaluate_on_all_ranks(
            self._running,
            model if trainer is None else trainer.model_wrapped,
            step,
            self.ks,
            accelerator=None if trainer is None else trainer.accelerator,
            gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
        )

    # Where it goes

    def _keep(self, result: EvaluationResult, state: TrainerState) -> Metrics:
        result = replace(result, first=self.history.first_rates, previous=self.history.last_rates)
        self.result = result
        metrics = result.metrics()
        if state.is_world_process_zero:
            if self._store is not None:
                self._store.write(result.step, result.records)
            if self.journal is not None:
                self.journal.metrics(result.step, "eval", metrics)
            elif (manager := get_wandb_sync_manager()) is not None:
                manager.log(metrics, result.step, kind="eval")
        state.log_history.append({"epoch": state.epoch, **metrics, "step": result.step})
        self.history.add(result)
        state.stateful_callbacks[HISTORY_KEY] = self.history.to_dict()
        line = f"step {result.step}: {MAIN_METRIC} {result.intervals['test_pass_rate']}"
        if self.journal is None and state.is_world_process_zero and not logger.isEnabledFor(logging.INFO):
            print(line, flush=True)  # a script of somebody's own that has not set up logging still sees it
        logger.info("%s", line)
        return metrics

    def _warn(self, state: TrainerState, step: int, event: str, message: str, **fields: Any) -> None:
        logger.warning("evaluation of step %d: %s", step, message)
        self._event(state, event, step=step, **fields)

    def _event(self, state: TrainerState, name: str, **fields: Any) -> None:
        if self.journal is not None and state.is_world_process_zero:
            self.journal.event(name, **fields)

    # Across a resume

    def _take_over_history(self, state: TrainerState) -> None:
        """Go on from what the checkpoint's ``trainer_state.json`` says, whatever this object has seen before.

        Not transformers' ``ExportableState``: that rebuilds a callback from JSON-able arguments and so would lose the
        problems and the verifier.
        """
        saved = state.stateful_callbacks.get(HISTORY_KEY)
        self.history = EvaluationHistory() if saved is None else EvaluationHistory.from_dict(saved)

    def state_dict(self) -> dict[str, Any]:
        return self.history.to_dict()

    def snapshot(self) -> None:
        """For ``training.interruptible``, which may go back to a step's beginning: nothing changes until its end."""

    def restore(self, snapshot: None) -> None:
        """Inverse of ``snapshot``."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Inverse of ``state_dict``. What ``on_train_begin`` took over or has redone since is not undone."""
        history = EvaluationHistory.from_dict(saved)
        if history.last_step > self.history.last_step:
            self.history = history

    def get_evaluation_summary(self) -> dict[str, Any]:
        """History, trend since the first evaluation with its 95% interval, last step, source of problems, failures."""
        return {
            "eval_every_n_steps": self.eval_every_n_steps,
            "max_samples": self.max_samples,
            "num_samples": self.num_samples,
            "temperature": self.temperature,
            **self.history.summary(),
        }
