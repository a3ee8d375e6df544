"""Verilog data as it is published -> ``Problem``: the guide's manifest, VerilogEval, RTLLM, CodeV-R1.

``docs/verilog.md`` shows each format. Rows come from a JSON file, VerilogEval and RTLLM from a folder or an archive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from grpo_project.problems.faults import Faults, did_you_mean, json_type
from grpo_project.problems.problem import LEVELS, MAX_COMPLEXITY, Bench, Problem
from grpo_project.problems.verilog import (
    MAX_CASES,
    SAMPLE_GROUPS,
    TIME_LIMIT_S,
    Sources,
    case_tests,
    module_of,
    output_tests,
    sample_tests,
)
from grpo_project.problems.verilog_text import instantiated_in, modules_in, renamed, strings_in

GUIDE_REQUIRED = ("prompt", "testbench_path", "reference_verilog_path", "expected_total_tests")
GUIDE_LEVELS = {"basic": "foundation"}
"""Its names that are not ours."""
_NAMED = re.compile(r"\bmodule\s+(?:MUST|must|should|has to)\s+be\s+named:?\s*[`'\"*]*([A-Za-z_]\w*)")
KNOWN_FAULTY = {
    "Prob099_m2014_q6c": "its ports contradict its bench",
    "Prob082_lfsr32": "its own bench runs into its time-out",
    "Prob141_count_clock": "its own bench runs into its time-out",
    "Prob156_review2015_fancytimer": "its own bench runs into its time-out",
}
"""VerilogEval v2, for anyone who runs it."""


def is_guide(row: dict[str, Any]) -> bool:
    return "testbench_path" in row or "reference_verilog_path" in row


def is_codev(row: dict[str, Any]) -> bool:
    return isinstance(row.get("reward_model"), dict) and "ground_truth" in row["reward_model"]


def read_guide(row: dict[str, Any], faults: Faults, sources: Sources) -> Problem | None:
    """One line of the guide's JSON Lines. Fields that it does not know are kept by their owner and not looked at."""
    before = len(faults)
    for name in GUIDE_REQUIRED:
        if row.get(name) in (None, ""):
            faults.add(name, "is missing", f"every row needs {', '.join(GUIDE_REQUIRED)}")
    total = row.get("expected_total_tests")
    if total is not None and (isinstance(total, bool) or not isinstance(total, int) or not 0 < total <= MAX_CASES):
        faults.add("expected_total_tests", f"is {total!r}", "give the number of test cases of the bench")
    for name in ("prompt", "testbench_path", "reference_verilog_path", "task_id", "category"):
        if row.get(name) is not None and not isinstance(row[name], str):
            faults.add(name, f"is {json_type(row[name])}, not a string", "put it in quotes")
    level = _guide_level(row.get("level"), faults)
    complexity = row.get("complexity_score")
    if complexity is not None and (isinstance(complexity, bool) or not isinstance(complexity, int | float)):
        faults.add("complexity_score", f"is {json_type(complexity)}", f"give a number from 0 to {MAX_COMPLEXITY:g}")
    elif complexity is not None and not 0 <= complexity <= MAX_COMPLEXITY:
        faults.add("complexity_score", f"is {complexity}", f"give a number from 0 to {MAX_COMPLEXITY:g}")
    if len(faults) > before:
        return None
    bench = sources.text(row["testbench_path"], "testbench_path")
    reference = sources.text(row["reference_verilog_path"], "reference_verilog_path")
    if bench is None or reference is None:
        return None
    module = module_of(bench, reference, faults, bench_field="testbench_path", reference_field="reference_verilog_path")
    named = _NAMED.search(row["prompt"])
    if module is not None and named is not None and named[1] != module:
        fix = "correct the prompt or the bench: no design can do right by both"
        faults.add("prompt", f"names the module {named[1]}, and the bench instantiates {module}", fix)
    if len(faults) > before:
        return None
    return Problem(
        id=row.get("task_id") or PurePosixPath(row["testbench_path"]).stem,
        prompt=row["prompt"],
        tests=case_tests(row["expected_total_tests"]),
        level=level,
        complexity=None if complexity is None else float(complexity),
        entry_point=module,
        solution=reference,
        tags=tuple(part for part in (row.get("category"),) if part),
        language="verilog",
        time_limit_s=TIME_LIMIT_S,
        bench=Bench(bench, sources.beside(bench, row["testbench_path"])),
        source=faults.source,
    )


def _guide_level(value: Any, faults: Faults) -> str:
    if value is None:
        return "unknown"
    level = GUIDE_LEVELS.get(value, value) if isinstance(value, str) else value
    if level not in LEVELS:
        known = sorted({*LEVELS, *GUIDE_LEVELS})
        faults.add("level", f"{value!r} is not a level", did_you_mean(str(value), known))
    return level


def read_codev(row: dict[str, Any], faults: Faults, sources: Sources) -> Problem | None:
    """A row of CodeV-R1 as JSON: the golden design decides, under random inputs."""
    truth = row["reward_model"]["ground_truth"]
    answers = list(truth.values()) if isinstance(truth, dict) else []
    if not answers or not isinstance(answers[0], dict) or not isinstance(answers[0].get("code"), str):
        fix = 'unpickle it and write {"answer": {"code": ..., "clock_port_polarity": [["clk", 1]], ...}}'
        faults.add("reward_model.ground_truth", "holds no golden code", fix)
        return None
    golden = answers[0]
    prompt = row.get("prompt")
    if isinstance(prompt, list):
        prompt = "\n\n".join(
            part["content"] for part in prompt if isinstance(part, dict) and part.get("role") == "user"
        )
    if not isinstance(prompt, str) or not prompt.strip():
        faults.add("prompt", "is missing", "give a text, or messages with one of the user's")
        return None
    modules = modules_in(golden["code"])
    if not modules:
        faults.add("reward_model.ground_truth", "its code defines no module", "take the row out")
        return None
    inside = instantiated_in(golden["code"])
    module = next((name for name in reversed(modules) if name not in inside), modules[-1])
    clocks, resets = golden.get("clock_port_polarity") or [], golden.get("reset_port_polarity_sync") or []
    if len({clock[0] for clock in clocks}) > 1:
        faults.add("reward_model.ground_truth", "has several clocks", "take the row out, or give it a test bench")
        return None
    extra = row.get("extra_info") if isinstance(row.get("extra_info"), dict) else {}
    identity = row.get("id") or row.get("problem_id") or (extra or {}).get("index")
    reset = resets[0] if resets else None
    return Problem(
        id=f"codev-{faults.row}" if identity is None else str(identity),
        prompt=prompt,
        tests=sample_tests(SAMPLE_GROUPS),
        entry_point=module,
        solution=golden["code"],
        tags=("codev",),
        language="verilog",
        time_limit_s=TIME_LIMIT_S,
        bench=Bench(
            None, (), clocks[0][0] if clocks else None, reset[0] if reset else None, bool(reset and not reset[1])
        ),
        source=faults.source,
    )


def is_verilog_eval(files: Mapping[str, str]) -> bool:
    return any(name.endswith("_test.sv") for name in files)


def read_verilog_eval(files: Mapping[str, str], faults: Faults) -> list[Problem]:
    """``ProbNNN_name_{prompt.txt,ref.sv,test.sv}`` and, in the code-complete variant, ``_ifc.txt``."""
    folders = sorted({str(PurePosixPath(name).parent) for name in files if name.endswith("_test.sv")})
    if len(folders) > 1:
        faults.add(None, f"holds several variants: {', '.join(folders)}", "name one of these folders")
        return []
    problems = []
    for name in sorted(name for name in files if name.endswith("_test.sv")):
        base = name.removesuffix("_test.sv")
        identity = PurePosixPath(base).name
        missing = [f"{identity}_{end}" for end in ("prompt.txt", "ref.sv") if f"{base}_{end}" not in files]
        if missing:
            faults.add(
                None, f"{', '.join(missing)} is missing beside {identity}_test.sv", "take the folder as published"
            )
            continue
        reference, test = files[f"{base}_ref.sv"], files[name]
        problems.append(
            Problem(
                id=identity,
                prompt=files[f"{base}_prompt.txt"].strip() + "\n",
                tests=output_tests(reference, "RefModule"),
                entry_point="TopModule",
                solution=renamed(reference, {"RefModule": "TopModule"}),
                starter_code=files.get(f"{base}_ifc.txt"),
                tags=("verilog-eval",),
                language="verilog",
                time_limit_s=TIME_LIMIT_S,
                bench=Bench(f"{test}\n{reference}\n"),
                source=faults.source,
            )
        )
    return problems


def is_rtllm(files: Mapping[str, str]) -> bool:
    return any(PurePosixPath(name).name == "design_description.txt" for name in files)


_TOTAL = re.compile(r"/\s*(\d+)\s*failures", re.I)


def read_rtllm(files: Mapping[str, str], faults: Faults) -> list[Problem]:
    """``.../name/{design_description.txt, testbench.v, verified_*.v}``; the reference gets the bench's name for it."""
    problems = []
    for description in sorted(name for name in files if PurePosixPath(name).name == "design_description.txt"):
        folder = PurePosixPath(description).parent
        inside = {
            str(PurePosixPath(name).relative_to(folder)): text for name, text in files.items() if _in(name, folder)
        }
        bench = inside.get("testbench.v")
        verified = next((text for name, text in sorted(inside.items()) if name.startswith("verified_")), None)
        if bench is None or verified is None:
            faults.add(None, f"{folder} has no testbench.v or no verified_*.v", "take the folder as published")
            continue
        module = _rtllm_module(bench, verified)
        if module is None:
            faults.add(None, f"{folder}: the bench instantiates none of the reference's modules", "take the folder out")
            continue
        total = _TOTAL.search(bench)
        named = strings_in(bench)
        problems.append(
            Problem(
                id=folder.name,
                prompt=files[description].strip() + "\n",
                tests=case_tests(int(total[1]) if total and 0 < int(total[1]) <= MAX_CASES else 1),
                entry_point=module[0],
                solution=renamed(verified, {module[1]: module[0]}),
                tags=("rtllm", *folder.parts[:-1][-2:]),
                language="verilog",
                time_limit_s=TIME_LIMIT_S,
                bench=Bench(bench, tuple((name, text) for name, text in sorted(inside.items()) if name in named)),
                source=faults.source,
            )
        )
    return problems


def _in(name: str, folder: PurePosixPath) -> bool:
    return PurePosixPath(name).parent == folder


def _rtllm_module(bench: str, verified: str) -> tuple[str, str] | None:
    """(the bench's name of the module, the reference's): 28 references are called ``verified_`` and the name."""
    wanted = instantiated_in(bench) - set(modules_in(bench))
    defined = modules_in(verified)
    for name in sorted(wanted):
        for own in (name, f"verified_{name}"):
            if own in defined:
                return name, own
    top = [name for name in defined if name not in instantiated_in(verified)] or defined
    return (next(iter(wanted)), top[-1]) if len(wanted) == 1 and top else None
