"""Who is compared on the wide set: our samplers, and published ways to choose prompts, each in a few lines.

A contestant is a source of problems (the trainer's seam, see ``UniformSource``) and how often groups without variance
are drawn anew. The published ones keep one estimate a problem; what each takes from its paper is said with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from grpo_project.curriculum import Curriculum, CurriculumSettings, Stage, UniformSource
from grpo_project.problems.problem import LEVELS

Source = Callable[[Sequence[Any], int], Any]
CANDIDATES = 16
"""Problems that a sampler chooses one from."""


class Choosing(UniformSource):
    """Takes the best of ``CANDIDATES`` uniformly drawn problems; subclasses say what is best and what they learn."""

    def __init__(self, problems: Sequence[Any], seed: int) -> None:
        super().__init__(problems, seed=seed, evaluation_interval=0)
        self.rng = Random(seed)
        self.index_of = {problem.id: index for index, problem in enumerate(problems)}

    def draw(self, n: int) -> list[Any]:
        return [self.problems[self.choose()] for _ in range(n)]

    def choose(self) -> int:
        return min((self.rng.randrange(len(self.problems)) for _ in range(CANDIDATES)), key=self.distance)

    def distance(self, index: int) -> float:
        """How far the problem is from what is wanted."""
        raise NotImplementedError

    def observe_rollouts(self, step: int, results: Sequence[Any]) -> None:
        super().observe_rollouts(step, results)
        for result in results:
            self.learn(self.index_of[result.problem_id], result)

    def learn(self, index: int, result: Any) -> None:
        """What became of a group."""


class Thompson(Choosing):
    """MoPPS (arXiv 2507.04632): a Beta posterior a problem, halved at each visit; nearest to 1/2 by a sample of it."""

    def __init__(self, problems: Sequence[Any], seed: int) -> None:
        super().__init__(problems, seed)
        self.counts: dict[int, tuple[float, float]] = {}

    def distance(self, index: int) -> float:
        solved, failed = self.counts.get(index, (0.0, 0.0))
        return abs(self.rng.betavariate(1.0 + solved, 1.0 + failed) - 0.5)

    def learn(self, index: int, result: Any) -> None:
        solved, failed = self.counts.get(index, (0.0, 0.0))
        n = len(result.statuses)
        self.counts[index] = (0.5 * solved + result.solved, 0.5 * failed + n - result.solved)


class Skipping(UniformSource):
    """GRESO (arXiv 2506.02177): a problem without variance at its last z visits is skipped with chance 1 - 1/2^z."""

    def __init__(self, problems: Sequence[Any], seed: int) -> None:
        super().__init__(problems, seed=seed, evaluation_interval=0)
        self.rng = Random(seed)
        self.dull: dict[str, int] = {}

    def draw(self, n: int) -> list[Any]:
        drawn: list[Any] = []
        while len(drawn) < n:
            drawn += [p for p in super().draw(n - len(drawn)) if self.rng.random() < 0.5 ** self.dull.get(p.id, 0)]
        return drawn

    def observe_rollouts(self, step: int, results: Sequence[Any]) -> None:
        super().observe_rollouts(step, results)
        for result in results:
            self.dull[result.problem_id] = 0 if result.varied else self.dull.get(result.problem_id, 0) + 1


class MovingTarget(Choosing):
    """AdaRFT (arXiv 2504.05520): the problem nearest to a difficulty that rises while more than half are solved.

    Difficulty is the label (0 to 4; 2 where there is none), the step 2 tanh(2 (share solved - 1/2)), scaled from the
    paper's 0 to 100.
    """

    def __init__(self, problems: Sequence[Any], seed: int) -> None:
        super().__init__(problems, seed)
        self.target = 0.0

    def distance(self, index: int) -> float:
        level = self.problems[index].level
        return abs((LEVELS.index(level) if level in LEVELS else 2) - self.target)

    def observe_rollouts(self, step: int, results: Sequence[Any]) -> None:
        super().observe_rollouts(step, results)
        share = sum(r.solved for r in results) / sum(len(r.statuses) for r in results)
        self.target = max(0.0, min(4.0, self.target + 2.0 * math.tanh(2.0 * (share - 0.5))))


def uniform(problems: Sequence[Any], seed: int) -> Any:
    return UniformSource(problems, seed=seed, evaluation_interval=0)


def curriculum(candidates: int | None = None, predicts: bool = True, **settings: Any) -> Source:
    def build(problems: Sequence[Any], seed: int) -> Any:
        built = Curriculum(problems, CurriculumSettings(**settings), seed=seed, evaluation_interval=0)
        if candidates:
            built._sampler.candidates = candidates
        if not predicts:
            built._sampler._model.predict = lambda problem: 0.5
        return built

    return build


ONE_STAGE: dict[str, Any] = {"stages": (Stage("all"),), "final_mixed": False, "probe_share": 0.1}
CONTESTANTS: dict[str, tuple[Source, int]] = {
    "uniform": (uniform, 0),
    "uniform, redrawn": (uniform, 2),
    "staged": (curriculum(sampler="staged"), 0),
    "learnable": (curriculum(), 0),
    "learnable, no predictions": (curriculum(predicts=False), 0),
    "learnable, no stages": (curriculum(**ONE_STAGE), 0),
    "learnable, no stages, of 64": (curriculum(64, **ONE_STAGE), 0),
    "learnable, no stages, redrawn": (curriculum(**ONE_STAGE), 2),
    "Thompson": (Thompson, 0),
    "skipping": (Skipping, 0),
    "moving target": (MovingTarget, 0),
}
