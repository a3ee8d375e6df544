"""Built-in Verilog: small modules in five levels, with the unreliable answers that a first model writes.

A module has two operands (and, in the sequential levels, a clock and a reset) and one output. Its answer is one or two
expressions; each is right with a probability of its own, else its commonest misconception. Everything comes from a
seed, and a module belongs to the held-out split by a hash of its expressions alone.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from grpo_project.problems.problem import BUILTIN, LEVELS, Bench, Problem
from grpo_project.problems.verilog import sample_tests

MODULE = "m"
SIZES = {"train": 1000, "heldout": 250}
WIDTHS = (2, 3, 4, 5, 6, 7, 8, 12, 16)
GROUPS = 8
"""Tests of a module: stretches of samples."""
HELDOUT_SHARE = 5
RELIABILITY = 0.6
"""How often the warm-up's answers get an expression right."""

# What is asked for, the right expression of a and b, and its commonest misconception.
SIMPLE = (
    ("the bitwise and of {a} and {b}", "{a} & {b}", "{a} && {b}"),
    ("the bitwise or of {a} and {b}", "{a} | {b}", "{a} || {b}"),
    ("the bitwise xor of {a} and {b}", "{a} ^ {b}", "{a} | {b}"),
    ("the bitwise nand of {a} and {b}", "~({a} & {b})", "~{a} & {b}"),
    ("the bitwise nor of {a} and {b}", "~({a} | {b})", "~{a} | {b}"),
    ("the bitwise xnor of {a} and {b}", "~({a} ^ {b})", "{a} ^ {b}"),
)
ARITHMETIC = (
    ("the sum of {a} and {b}", "{a} + {b}", "{a} | {b}"),
    ("the difference {a} minus {b}", "{a} - {b}", "{b} - {a}"),
    ("the larger of {a} and {b}", "({a} > {b}) ? {a} : {b}", "({a} < {b}) ? {a} : {b}"),
    ("the smaller of {a} and {b}", "({a} < {b}) ? {a} : {b}", "({a} > {b}) ? {a} : {b}"),
    ("{a} where it equals {b}, else 0", "({a} == {b}) ? {a} : 0", "({a} = {b}) ? {a} : 0"),
    ("the sum of {a} and {b} plus {k}", "{a} + {b} + {k}", "{a} + {b}"),
)


@dataclass(frozen=True, slots=True)
class Module:
    """``stages`` are (wording, right, wrong); the second one works on the first one's result, called t, and b."""

    level: int
    width: int
    stages: tuple[tuple[str, str, str], ...]

    @property
    def clocked(self) -> bool:
        return self.level >= 3

    @property
    def prompt(self) -> str:
        size = f"{self.width} bits"
        what = ", then ".join(stage[0] for stage in self.stages)
        when = " at each rising edge of clk, 0 while rst" if self.clocked else ""
        return f"q ({size}) is {what}{when}."

    @property
    def starter_code(self) -> str:
        bits = f"[{self.width - 1}:0]"
        if self.clocked:
            return f"module {MODULE}(input clk, input rst, input {bits} a, input {bits} b, output reg {bits} q);\n"
        return f"module {MODULE}(input {bits} a, input {bits} b, output {bits} q);\n"

    @property
    def complexity(self) -> float:
        return round(2 * self.level + 0.1 * WIDTHS.index(self.width) + 0.5 * len(self.stages), 2)

    @property
    def is_heldout(self) -> bool:
        text = "|".join(stage[1] for stage in self.stages) + f"|{self.width}|{self.clocked}"
        return hashlib.sha256(text.encode()).digest()[0] % HELDOUT_SHARE == 0

    def body(self, expressions: list[str], *, resets: bool = True) -> str:
        """What continues the starter code."""
        lines = []
        if len(expressions) > 1:
            lines.append(f"  wire [{self.width - 1}:0] t = {expressions[0]};")
        last = expressions[-1]
        if self.clocked:
            value = f"if (rst) q <= 0; else q <= {last};" if resets else f"q <= {last};"
            lines.append(f"  always @(posedge clk) {value}")
        else:
            lines.append(f"  assign q = {last};")
        return "\n".join([*lines, "endmodule"]) + "\n"

    @property
    def solution(self) -> str:
        return self.body([stage[1] for stage in self.stages])

    def unreliable_body(self, rng: random.Random) -> str:
        """What the warm-up shows: plausible, and often wrong."""
        expressions = [stage[1] if rng.random() < RELIABILITY else stage[2] for stage in self.stages]
        return self.body(expressions, resets=rng.random() < 0.8)


def draw_module(rng: random.Random, level: int) -> Module:
    """Levels: one bitwise stage; one of arithmetic; two stages; one in a register; two in a register."""
    width = rng.choice(WIDTHS)
    pools = {
        0: (SIMPLE,),
        1: (ARITHMETIC,),
        2: (SIMPLE, ARITHMETIC),
        3: (SIMPLE + ARITHMETIC,),
        4: (ARITHMETIC, SIMPLE),
    }
    stages = []
    for position, pool in enumerate(pools[level]):
        names = {"a": "t" if position else "a", "b": "b", "k": str(rng.randint(1, 3))}
        spoken = names | {"a": "that" if position else "a"}
        wording, right, wrong = rng.choice(pool)
        stages.append((wording.format(**spoken), right.format(**names), wrong.format(**names)))
    return Module(level, width, tuple(stages))


def builtin_verilog_problems(split: str = "train", seed: int = 0) -> tuple[Problem, ...]:
    """The built-in Verilog problems of a split, levels in turn. The same seed gives the same problems.

    There are few modules of the lowest levels: each appears once.
    """
    return _problems(split, seed)


@lru_cache(maxsize=4)
def _problems(split: str, seed: int) -> tuple[Problem, ...]:
    levels = [list(_of_level(split, seed, level)) for level in range(len(LEVELS))]
    found = [level[i] for i in range(max(map(len, levels))) for level in levels if i < len(level)]
    return tuple(islice(found, SIZES[split]))


def _of_level(split: str, seed: int, level: int) -> Iterator[Problem]:
    rng = random.Random(f"verilog-{split}-{seed}-{LEVELS[level]}")
    seen: set[str] = set()
    for _ in range(20 * SIZES[split]):
        module = draw_module(rng, level)
        if module.is_heldout == (split == "heldout") and module.prompt not in seen:
            seen.add(module.prompt)
            yield _problem(module)
            if len(seen) == SIZES[split] // len(LEVELS):
                return


def _problem(module: Module) -> Problem:
    clocked = module.clocked
    return Problem(
        id=f"builtin-verilog-{LEVELS[module.level]}-{hashlib.sha256(module.prompt.encode()).hexdigest()[:10]}",
        prompt=module.prompt,
        tests=sample_tests(GROUPS),
        level=LEVELS[module.level],
        complexity=module.complexity,
        entry_point=MODULE,
        starter_code=module.starter_code,
        solution=module.starter_code + module.solution,
        language="verilog",
        time_limit_s=2.0,
        bench=Bench(None, (), "clk" if clocked else None, "rst" if clocked else None, samples=64),
        source=BUILTIN,
    )
