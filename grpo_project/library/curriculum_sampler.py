"""``grpo_project.CurriculumSampler``: our curriculum in a plain ``GRPOTrainer`` of TRL's, without ``CodeTrainer``.

It stands in the place of TRL's ``RepeatSampler`` (trl/trainer/utils.py): the same rows in the same pattern, only which
problems come next is the curriculum's choice. The loader asks for one batch ahead, so a draw knows nothing of the batch
that is being trained on; what was drawn and not trained on yet is part of the state.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from grpo_project.curriculum import Alarm, Curriculum, CurriculumSettings, Decision, GroupResult
from grpo_project.errors import CheckpointError, ConfigError
from grpo_project.problems.problem import Problem
from grpo_project.rewards.choice import RewardFunction
from grpo_project.rewards.judging import judged
from grpo_project.verifier.verdict import Status

if TYPE_CHECKING:
    from trl import GRPOTrainer

    from grpo_project.evaluation.result import EvaluationResult

logger = logging.getLogger("grpo_project")
STATE = "grpo_project_curriculum"
"""Its name in ``trainer_state.json``, below ``stateful_callbacks``."""


class CurriculumSampler:
    """Draws the rows of a training set that was made by ``as_dataset`` of the same problems, in the same order.

    ::

        sampler = CurriculumSampler(problems)
        trainer = GRPOTrainer(model, reward_funcs=[sampler.observing(rewards.pass_rate)],
                              train_dataset=as_dataset(problems), args=args)
        sampler.attach(trainer)
        trainer.train()

    Decisions and alarms are kept in ``decisions`` and ``alarms`` and logged. The state travels in each checkpoint.

    Raises:
        ConfigError: as ``Curriculum``.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        settings: CurriculumSettings | None = None,
        *,
        seed: int = 0,
        evaluation_interval: int = 0,
    ) -> None:
        """``evaluation_interval``: optimizer steps from one ``observe_evaluation`` to the next; 0: rollouts decide."""
        self.curriculum = Curriculum(problems, settings, seed=seed, evaluation_interval=evaluation_interval)
        self.decisions: list[dict[str, Any]] = []
        self.alarms: list[Alarm] = []
        self._problems = list(problems)
        self._rows = {problem.id: row for row, problem in enumerate(problems)}
        self._ahead: deque[list[int]] = deque()  # batches that were drawn and not observed yet
        self._again: deque[list[int]] = deque()  # of a checkpoint: to be drawn again first
        self._trainer: GRPOTrainer | None = None

    def attach(self, trainer: GRPOTrainer) -> None:
        """Draw this trainer's rows from now on. Before ``trainer.train()``.

        Raises:
            ConfigError: its training set is not that of these problems.
        """
        dataset = trainer.train_dataset
        if "problem_id" not in dataset.column_names or list(dataset["problem_id"]) != list(self._rows):
            raise ConfigError("the trainer's training set is not as_dataset(problems) of the sampler's own problems")
        self._trainer = trainer
        trainer._get_train_sampler = lambda dataset=None: _Rows(self, trainer)
        trainer.args.ignore_data_skip = True  # the state says where to go on; nothing is to be skipped
        trainer.add_callback(_State(self))

    def observing(self, reward: RewardFunction) -> RewardFunction:
        """The reward function, whose completions the curriculum learns from too. Wrap one of them.

        On several processes all see the same results: a group must lie on one of them.
        """

        def observed(completions: list[Any], problem: list[str], **columns: Any) -> Any:
            rewards = reward(completions=completions, problem=problem, **columns)
            if self._trainer is not None and self._trainer.model.training:
                self._observe(completions, problem, rewards)
            return rewards

        observed.__name__ = reward.__name__
        return observed

    def observe_evaluation(self, result: EvaluationResult, heldout: Sequence[Problem]) -> None:
        """Take in an evaluation, as of ``EnhancedInferenceCallback(on_result=...)`` or ``evaluate``."""
        by_id = {problem.id: problem for problem in heldout}
        by_problem = [(by_id[key], rate) for key, rate in result.rates.items()]
        self._note(
            self.curriculum.observe_evaluation(result.step, result.pass_rate, result.n, result.by_level, by_problem)
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that later draws and decisions depend on, as plain JSON values."""
        return {"curriculum": self.curriculum.state_dict(), "ahead": list(self._ahead), "decisions": self.decisions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``. Raises ``CheckpointError`` for that of other problems or settings."""
        try:
            self.curriculum.load_state_dict(state["curriculum"])
            self._again = deque(state["ahead"])
            self.decisions = list(state["decisions"])
        except KeyError as error:
            raise CheckpointError(f"the checkpoint's curriculum has no {error}; it is of another version") from error
        self._ahead = deque()

    def _draw(self, count: int) -> list[int]:
        if self._again:
            rows = self._again.popleft()
        else:
            rows = [self._rows[problem.id] for problem in self.curriculum.draw(count)]
        self._ahead.append(rows)
        return rows

    def _observe(self, completions: Sequence[Any], problems: Sequence[str], rewards: Sequence[float | None]) -> None:
        assert self._trainer is not None
        size = self._trainer.num_generations
        verdicts = judged(completions, problems)  # known already where the reward has asked for them
        mine = []
        for start in range(0, len(verdicts), size):
            rows = [row for row in range(start, start + size) if verdicts[row].status is not Status.INFRASTRUCTURE]
            scored = [(verdicts[row], reward) for row in rows if (reward := rewards[row]) is not None]
            if scored:
                mine.append(
                    GroupResult(
                        scored[0][0].problem_id,
                        [float(reward) for _, reward in scored],
                        [verdict.status for verdict, _ in scored],
                        [verdict.pass_rate for verdict, _ in scored],
                    )
                )
        if self._ahead:
            self._ahead.popleft()
        self._note(self.curriculum.observe_rollouts(self._trainer.state.global_step + 1, gather_object(mine)))

    def _note(self, decision: Decision | None) -> None:
        if decision is not None:
            self.decisions.append(decision.to_event())
            if decision.action != "hold":
                text = "step %d: %s -> %s: %s"
                logger.info(text, decision.step, decision.stage, decision.next_stage, decision.reason)
        for alarm in self.curriculum.take_alarms():
            self.alarms.append(alarm)
            logger.warning("%s", alarm)


class _Rows:
    """A sampler of torch's: row numbers, each group and each generation as often as TRL's ``RepeatSampler``."""

    def __init__(self, sampler: CurriculumSampler, trainer: GRPOTrainer) -> None:
        self._sampler = sampler
        self._group = trainer.num_generations
        self._groups = trainer.args.generation_batch_size // self._group
        self._times = trainer.num_iterations * trainer.args.steps_per_generation
        # At least one batch: TRL's own would train nothing on a set smaller than that.
        self._batches = max(1, len(trainer.train_dataset) // self._groups)

    def __len__(self) -> int:
        return self._batches * self._groups * self._group * self._times

    def __iter__(self) -> Iterator[int]:
        for _ in range(self._batches):
            rows = self._sampler._draw(self._groups)
            for _ in range(self._times):
                for row in rows:
                    yield from [row] * self._group


class _State(TrainerCallback, ExportableState):
    """Puts the state into ``trainer_state.json`` and takes it back when training goes on."""

    def __init__(self, sampler: CurriculumSampler) -> None:
        self._sampler = sampler

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {STATE: self._sampler.state_dict()}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        saved = state.stateful_callbacks.get(type(self).__name__)
        if state.global_step and not saved:
            raise CheckpointError("the checkpoint has no curriculum: it was saved by a trainer without this sampler")
        if state.global_step:
            self._sampler.load_state_dict(saved["attributes"][STATE])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs is not None and "loss" in logs:
            found = self._sampler.curriculum.metrics()
            logs.update(found)  # for the trackers that come after this callback
            state.log_history[-1].update(found)  # transformers has made its copy already (trainer.py, log)
