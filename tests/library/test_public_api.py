"""The public names and their signatures are pinned: what other people import does not move by accident."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import grpo_project

SIGNATURES = {
    "as_dataset": "(problems, tokenizer=None, system_prompt=None)",
    "evaluate": "(model, problems, *, tokenizer=None, num_samples=1, temperature=None, ks=None, max_new_tokens=512, "
    "batch_size=64, seed=0, system_prompt=None, verifier=None)",
    "load_problems": "(path, base_path=None, columns=None)",
    "train": "(config)",
    "verify": "(problem, completion)",
    "Curriculum": "(problems, settings=None, *, seed=0, threshold=None, on_stall=None, evaluation_interval=25)",
    "Curriculum.draw": "(self, n)",
    "Curriculum.observe_rollouts": "(self, step, results)",
    "Curriculum.observe_evaluation": "(self, step, pass_rate, n, by_level=None, by_problem=None)",
    "Curriculum.state_dict": "(self)",
    "Curriculum.load_state_dict": "(self, state)",
    "CurriculumSampler": "(problems, settings=None, *, seed=0, evaluation_interval=0)",
    "CurriculumSampler.attach": "(self, trainer)",
    "CurriculumSampler.observing": "(self, reward)",
    "CurriculumSampler.observe_evaluation": "(self, result, heldout)",
    "CurriculumSampler.state_dict": "(self)",
    "CurriculumSampler.load_state_dict": "(self, state)",
    "Endpoint": "(url, model, *, api_key=None, concurrency=16, retries=6, timeout_s=600.0)",
    "Job": "(problem, completion, id='')",
    "Run": "(output_dir)",
    "Run.metrics": "(self, kind='train')",
    "Run.events": "(self)",
    "Run.samples": "(self)",
    "Run.evaluations": "(self)",
    "Verifier": "(*, workers=None, isolation=None, cache=True, stop_early=False, secret=None, "
    "address=None, fallback=None)",
    "Verifier.verify": "(self, job)",
    "Verifier.verify_many": "(self, jobs, *, secret=None, keep_unusable=False)",
    "Verifier.stream": "(self, jobs, *, keep_faults=False)",
    "Verifier.close": "(self)",
}
FIELDS = {
    "Problem": "id prompt tests level complexity entry_point solution starter_code tags language time_limit_s "
    "memory_limit_mb comparison checker bench source",
    "Verdict": "job_id problem_id status passed total tests code message weak method remarks cached cpu_s wall_s",
}


def plain(signature: inspect.Signature) -> str:
    """Without annotations, which may become more exact."""
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


@pytest.mark.parametrize(("name", "expected"), SIGNATURES.items(), ids=SIGNATURES.keys())
def test_signatures(name: str, expected: str) -> None:
    value = grpo_project
    for part in name.split("."):
        value = getattr(value, part)
    assert plain(inspect.signature(value)) == expected
    assert inspect.getdoc(value)


def test_names_and_fields() -> None:
    classes = {name.split(".")[0] for name in (*SIGNATURES, *FIELDS)}
    assert set(grpo_project.__all__) == classes | {"__version__"}
    for name, fields in FIELDS.items():
        assert [part for part in getattr(grpo_project, name).__dataclass_fields__] == fields.split()
    assert {"pass_rate", "all_or_nothing", "mixed", "stepwise", "weighted"} <= set(grpo_project.rewards.__all__)
    assert set(dir(grpo_project)) >= {*grpo_project.__all__, "errors", "rewards"}
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = grpo_project.nothing_like_it


def test_importing_the_package_loads_nothing_else_of_it() -> None:
    program = "import sys; before = set(sys.modules); import grpo_project; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith("grpo_project")] == ["grpo_project"]
    assert not {"numpy", "torch", "pyarrow", "rich", "yaml"} & set(loaded)
