"""Generates completions for problems and has each judged as soon as it ends, while generation goes on.

Letters: P problems, S completions of each, B completions of a batch, W ranks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from grpo_project.errors import ConfigError, GrpoError, InfrastructureError
from grpo_project.generation.generator import Generator
from grpo_project.generation.probe import is_out_of_memory
from grpo_project.generation.request import Generate, Generation, ServedGenerator
from grpo_project.generation.uniforms import completion_key
from grpo_project.problems.problem import Problem
from grpo_project.problems.prompt import messages, prompt_as_text, prompt_text
from grpo_project.record.evaluations import CompletionRecord
from grpo_project.verifier.verdict import Job, Judge, Verdict

SAMPLING_TEMPERATURE = 0.8
"""Default for several completions of a problem, where greedy would repeat itself."""

DEFAULT_KS = (1, 5, 10)


class EvaluationAbandoned(Exception):
    """The process has to stop before the evaluation is complete."""


class EvaluationOutOfMemory(InfrastructureError):
    """A batch of completions did not fit the memory; a smaller one may."""


class PendingVerdict:
    """A completion that the judge is at work on. One that nobody refers to any more need not be finished."""

    def __init__(self, judge: Judge, job: Job) -> None:
        self._failure: GrpoError | None = None
        try:
            self._verdicts = iter(judge.stream([job]))
        except GrpoError as error:  # raised where the verdict is needed: ranks may be generating in lockstep now
            self._failure = error

    def wait(self) -> Verdict:
        """The verdict. Raises as the judge does; call it once."""
        if self._failure is not None:
            raise self._failure
        return next(self._verdicts)


Waiting = list[tuple[Problem, int, Generation, PendingVerdict]]
"""A generated batch: problem, sample, completion, and the verdict to come."""


Kept = Mapping[tuple[str, int], Generation]
"""Completions by problem id and sample."""

OnCompletion = Callable[[Problem, int, Generation], None]
"""Called as ``(problem, sample, completion)``."""


@dataclass(slots=True)
class Batches:
    """This rank's records in order, and where the time went (seconds)."""

    records: list[CompletionRecord] = field(default_factory=list)
    generation_s: float = 0.0
    verification_s: float = 0.0
    """Of the verifier's workers, several of which may be at work at once."""
    waited_s: float = 0.0
    """For verdicts while nothing was generated: the rest of the verification took no time of its own."""


class Evaluator:
    """Evaluates models on a fixed set of problems.

    Args:
        problems: P of them.
        tokenizer: the models'; ``None`` with a ``generate``.
        judge: judges the completions.
        num_samples: S.
        temperature: 0 is greedy. Default: greedy for one completion, ``SAMPLING_TEMPERATURE`` for several.
        seed: with the step, the problem's place and the sample's number it gives each completion random numbers of its
            own, so an evaluation repeats, whatever the batches and ranks, and one that was interrupted goes on with the
            batch that it had reached.
        batch_size: B at most, on each rank.
        max_new_tokens: length limit of a completion.
        should_stop: asked at each token; True abandons the evaluation. Not where ranks generate in lockstep.
        generate: makes the completions in the model's place, as a server does (``generation.request``).

    Raises:
        ConfigError: several greedy completions, or a number out of its range.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        tokenizer: PreTrainedTokenizerBase | None,
        judge: Judge,
        *,
        num_samples: int = 1,
        temperature: float | None = None,
        seed: int = 0,
        batch_size: int = 64,
        max_new_tokens: int = 256,
        system_prompt: str | None = None,
        should_stop: Callable[[], bool] | None = None,
        generate: Generate | None = None,
    ) -> None:
        self.problems = tuple(problems)
        self.judge = judge
        self.num_samples = num_samples
        self.temperature = resolve_temperature(num_samples, temperature)
        self.seed = seed
        self.batch_size = batch_size
        self.should_stop = should_stop
        limits: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": self.temperature}
        self.generator: Any
        if generate is not None:
            self.generator = ServedGenerator(generate, **limits, should_stop=should_stop)
        elif tokenizer is not None:
            self.generator = Generator(tokenizer, **limits, should_stop=should_stop)
        else:
            raise ConfigError("an evaluation needs a tokenizer, or a generate of one's own")
        self._places = {problem.id: place for place, problem in enumerate(self.problems)}
        # A server puts its own template on: it gets messages, a model here the text that it continues.
        self._asked: dict[str, Any] = {
            problem.id: prompt_text(problem, tokenizer, system_prompt)
            if generate is None
            else (problem, tuple(messages(problem, system_prompt)))
            for problem in self.problems
        }
        self.prompts = {
            key: asked if isinstance(asked, str) else prompt_as_text(asked[1]) for key, asked in self._asked.items()
        }

    def batches(self, rank: int = 0, world: int = 1) -> list[list[tuple[Problem, int]]]:
        """What rank ``rank`` of ``world`` generates: lists of (problem, sample). Every rank gets as many batches.

        Collective generation (ZeRO-3, FSDP) hangs unless all ranks call it equally often; a rank with less work gets
        empty batches, for which it generates and throws away.
        """
        work = [(problem, sample) for problem in self.problems for sample in range(self.num_samples)]
        longest_share = -(-len(work) // world)
        share = work[rank::world]
        return [share[start : start + self.batch_size] for start in range(0, longest_share, self.batch_size)]

    def run(
        self,
        model: Any,
        step: int,
        *,
        rank: int = 0,
        world: int = 1,
        in_lockstep: bool = False,
        finished: Mapping[int, Sequence[CompletionRecord]] | None = None,
        on_batch: Callable[[int, list[CompletionRecord]], None] | None = None,
        kept: Kept | None = None,
        on_completion: OnCompletion | None = None,
    ) -> Batches:
        """Evaluate ``model`` (within ``generation_mode``) and return this rank's records.

        Args:
            step: the optimizer step that the model stands at; random numbers come from it too.
            in_lockstep: the weights are sharded over the ranks, so all of them generate equally long.
            finished: batches that need not be done again, by number.
            on_batch: called with each new batch, in order, once it is judged.
            kept: completions of other batches that need not be generated again, only judged.
            on_completion: called with each new completion as it ends, before it is judged.

        Raises:
            SandboxError: the judge could not do its work.
            EvaluationOutOfMemory: a batch was too large.
            EvaluationAbandoned: ``should_stop`` said so.
        """
        done, finished = Batches(), finished or {}
        if kept and not self.generator.is_independent(model):
            kept = None  # a batch's completions depend on each other: generated without some, the others would change
        waiting: deque[tuple[int, Waiting]] = deque()
        for number, batch in enumerate(self.batches(rank, world)):
            if number in finished:
                done.records += finished[number]
                continue
            started = time.perf_counter()
            waiting.append((number, self._generate(model, batch, step, in_lockstep, kept or {}, on_completion)))
            done.generation_s += time.perf_counter() - started
            # In lockstep a judge's failure waits until the last batch: the other ranks generate to the end.
            while len(waiting) > 1 and not in_lockstep:
                self._collect(*waiting.popleft(), done, on_batch)
        while waiting:
            self._collect(*waiting.popleft(), done, on_batch)
        done.records = in_order(done.records, self.problems)
        return done

    def halve_batch(self, world: int = 1) -> bool:
        """Make the largest batch on ``world`` ranks half as large; False where it is a single completion already."""
        largest = min(self.batch_size, -(-len(self.problems) * self.num_samples // world))
        self.batch_size = max(1, largest // 2)
        return largest > 1

    def _generate(
        self,
        model: Any,
        batch: list[tuple[Problem, int]],
        step: int,
        in_lockstep: bool,
        kept: Kept,
        on_completion: OnCompletion | None,
    ) -> Waiting:
        ended: dict[int, tuple[Problem, int, Generation, PendingVerdict]] = {}

        def have_judged(row: int, made: Generation) -> None:
            problem, sample = batch[row]
            ended[row] = problem, sample, made, PendingVerdict(self.judge, Job(problem, made.text))

        for row, (problem, sample) in enumerate(batch):
            if (problem.id, sample) in kept:
                have_judged(row, kept[problem.id, sample])
        rows = [row for row in range(len(batch)) if row not in ended]
        if batch and not rows:
            return [ended[row] for row in range(len(batch))]
        work = [batch[row] for row in rows] or [(self.problems[0], 0)]  # without work: for the sake of the other ranks
        prompts = [self._asked[problem.id] for problem, _ in work]
        keys = [
            completion_key("evaluation", self.seed, step, self._places[problem.id], sample) for problem, sample in work
        ]

        def on_end(place: int, made: Generation) -> None:
            if place < len(rows) and not self._stopping:
                if on_completion is not None:
                    on_completion(*work[place], made)
                have_judged(rows[place], made)

        reason = None
        try:
            self.generator.generate(model, prompts, keys, on_end, in_lockstep=in_lockstep)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).strip().split("\n")[0] or type(error).__name__
        if reason is not None:  # raised out here, where the error's traceback keeps no tensors in memory
            raise EvaluationOutOfMemory(
                f"out of memory while generating {len(prompts)} completions at once ({reason}); "
                "lower batch_size or max_new_tokens"
            )
        if self._stopping:
            raise EvaluationAbandoned
        return [ended[row] for row in range(len(batch))]

    @property
    def _stopping(self) -> bool:
        return self.should_stop is not None and self.should_stop()

    def _collect(
        self,
        number: int,
        waiting: Waiting,
        done: Batches,
        on_batch: Callable[[int, list[CompletionRecord]], None] | None,
    ) -> None:
        started = time.perf_counter()
        records = [
            CompletionRecord(
                problem_id=problem.id,
                level=problem.level,
                source=problem.source,
                sample=sample,
                prompt=self.prompts[problem.id],
                completion=made.text,
                tokens=made.tokens,
                truncated=made.truncated,
                verdict=pending.wait(),
            )
            for problem, sample, made, pending in waiting
        ]
        done.records += records
        done.waited_s += time.perf_counter() - started
        done.verification_s += sum(record.verdict.wall_s for record in records if not record.verdict.cached)
        if on_batch is not None:
            on_batch(number, records)


def resolve_temperature(num_samples: int, temperature: float | None) -> float:
    """The temperature to use. Raises ``ConfigError`` for several greedy completions, which would be all alike."""
    if temperature is None:
        return 0.0 if num_samples == 1 else SAMPLING_TEMPERATURE
    if temperature < 0:
        raise ConfigError(f"temperature is {temperature}; it must be 0 (greedy) or more")
    if temperature == 0 and num_samples > 1:
        raise ConfigError(
            f"num_samples is {num_samples} at temperature 0: greedy completions are all alike; "
            "raise the temperature or take one sample"
        )
    return temperature


def resolve_ks(num_samples: int, ks: Sequence[int] | None) -> tuple[int, ...]:
    """Which pass@k can be said of ``num_samples``. Raises ``ConfigError`` for a k beyond it."""
    if ks is None:
        return tuple(k for k in DEFAULT_KS if k <= num_samples)
    wrong = [k for k in ks if not 1 <= k <= num_samples]
    if wrong:
        raise ConfigError(f"pass@{wrong[0]} needs 1 <= k <= num_samples, which is {num_samples}")
    return tuple(sorted({1, *ks}))


def in_order(records: Sequence[CompletionRecord], problems: Sequence[Problem]) -> list[CompletionRecord]:
    """The records by problem (in the order of ``problems``), then by sample."""
    place = {problem.id: i for i, problem in enumerate(problems)}
    return sorted(records, key=lambda record: (place[record.problem_id], record.sample))
