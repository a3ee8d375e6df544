"""The README.md of the trained model: what it was trained from, on what, how, and what was measured."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import try_to_load_from_cache

from grpo_project.evaluation.result import levels_of
from grpo_project.problems.problem import BUILTIN_VERILOG
from grpo_project.record.run_directory import MAIN_METRIC, Run
from grpo_project.record.run_record import RunRecord

logger = logging.getLogger("grpo_project")

EMBEDDED_LICENCE = "apache-2.0"  # the embedded model is built from nothing by this project
CARD = """\
---
{front}---

# {name}

{base} trained with GRPO on programming problems whose reward is what real tests say of the generated code.

## What was measured

{measured}

## How it was trained

| | |
|---|---|
{facts}

## How to use it

```python
{usage}
```

## Limits

Pass rates are shares of tests passed on held-out problems of the kind named above; nothing else was measured. Generated
code can be wrong or harmful: run it in a sandbox.

Made by grpo_project {version}, with TRL {trl} and transformers {transformers}. The method: Shao et al. 2024,
"DeepSeekMath", arXiv:2402.03300.
"""


def write_model_card(output_dir: Path) -> None:
    """Write README.md into a run directory. A disk that refuses it is told of: the model itself is there."""
    try:
        (output_dir / "README.md").write_text(model_card(output_dir), encoding="utf-8")
    except OSError as error:
        logger.warning("the model card could not be written: %s", error)


def model_card(output_dir: Path) -> str:
    """The card of the model in a run directory.

    Raises:
        ConfigError: there is no journal.
        CheckpointError: run.json can't be read, or is none of ``grpo train``.
    """
    record = RunRecord.read(output_dir)
    assert record is not None, "a run of ours has a run.json"
    evaluations = [row for row in Run.open(output_dir).metrics("eval") if MAIN_METRIC in row]
    base = record.content["config"]["run"]["model_name"]
    if base == BUILTIN_VERILOG:  # embedded as well
        base = None
    licence = licence_of(base)
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["grpo", "code"],
    }
    if base is not None and not Path(base).exists():
        front["base_model"] = base
    if licence is not None:
        front["license"] = licence
    versions = record.content["versions"]
    return CARD.format(
        front=yaml.safe_dump(front, sort_keys=False),
        name=output_dir.resolve().name,
        base="The embedded model of grpo_project" if base is None else f"`{base}`",
        measured=measured(evaluations),
        facts="\n".join(f"| {name} | {cell(text)} |" for name, text in facts(record, output_dir, licence)),
        usage=usage(output_dir, base),
        version=versions["grpo_project"],
        trl=versions["trl"],
        transformers=versions["transformers"],
    )


def measured(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Pass rates before and after with their intervals, by level."""
    if not evaluations:
        return "No evaluation was made, so there is no pass rate to report."
    first, last = evaluations[0], evaluations[-1]
    lines = [
        f"Mean share of tests passed on {last['eval/problems']} held-out problems ({last['eval/source']}), "
        "with 95% intervals over problems:\n",
        f"| | problems | step {first['step']} | step {last['step']} |",
        "|---|---|---|---|",
        f"| all | {last['eval/problems']} | {with_interval(first)} | {with_interval(last)} |",
    ]
    for level in levels_of(last):
        rates = [row.get(f"eval/{level}/test_pass_rate") for row in (first, last)]
        before, after = ("-" if rate is None else f"{rate:.3f}" for rate in rates)
        lines.append(f"| {cell(level)} | {last[f'eval/{level}/problems']} | {before} | {after} |")
    return "\n".join(lines)


def with_interval(row: Mapping[str, Any]) -> str:
    return f"{row[MAIN_METRIC]:.3f} [{row[f'{MAIN_METRIC}_low']:.3f}, {row[f'{MAIN_METRIC}_high']:.3f}]"


def facts(record: RunRecord, output_dir: Path, licence: str | None) -> list[tuple[str, str]]:
    content, config = record.content, record.content["config"]
    base, data = config["run"]["model_name"], content["data"]["train"]
    stages = list(dict.fromkeys(e["next_stage"] for e in Run.open(output_dir).events("stage_decision")))
    last = record.attempts[-1]
    git = content["git"]
    return [
        ("Base model", "the embedded model" if base is None else base),
        ("Its licence", licence or "not stated in its files; look it up before you share this model"),
        ("Training problems", f"{data['count']:,} ({data['source']}; fingerprint {data['fingerprint'][:12]})"),
        ("Curriculum", " to ".join(stages) if stages else "none"),
        ("Command", f"`{shlex.join(last.get('command') or ['grpo', 'train'])}`"),
        ("Interruptions", f"{content['interruptions']}, {content['redone_steps']} steps done again"),
        ("Commit", "not a git tree" if git is None else git["commit"] + (" with changes" if git["changed"] else "")),
        ("Versions", ", ".join(f"{name} {version}" for name, version in content["versions"].items())),
    ]


def cell(text: str) -> str:
    """A text that can stand in a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def licence_of(base: str | None) -> str | None:
    """What the base model's own card says, in its folder or in the local cache of the hub; nothing is fetched."""
    if base is None:
        return EMBEDDED_LICENCE
    path = Path(base, "README.md") if Path(base).is_dir() else try_to_load_from_cache(base, "README.md")
    if not isinstance(path, str | Path) or not Path(path).is_file():
        return None
    parts = Path(path).read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    try:
        front = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except yaml.YAMLError:
        return None
    found = front.get("license") if isinstance(front, dict) else None
    return found if isinstance(found, str) else None


def usage(output_dir: Path, base: str | None) -> str:
    """Loads the final model; an adapter needs its base, which its configuration names."""
    kind, library = ("AutoModelForCausalLM", "transformers")
    if (output_dir / "adapter_config.json").exists():
        kind, library = "AutoPeftModelForCausalLM", "peft"
    folder = repr(output_dir.resolve().name)
    return (
        f"from {library} import {kind}\nfrom transformers import AutoTokenizer\n\n"
        f"model = {kind}.from_pretrained({folder})\ntokenizer = AutoTokenizer.from_pretrained({folder})"
    )
