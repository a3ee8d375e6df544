"""A run in one sentence, a row of numbers, and the facts that say what was run."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from grpo_project.record.secrets import REDACTED
from grpo_project.reports import curves
from grpo_project.reports.progress import attempts, interruptions, missing_steps, redone_steps, stages
from grpo_project.reports.run_reader import MAIN, RunReader

RECENT = 20
"""Steps that "now" is a mean of, for reward and speed."""


def sentence(reader: RunReader) -> str:
    """``held-out 0.43 [0.37, 0.50] to 0.95 [0.91, 0.97] in 250 steps; 3 interruptions, 5 steps redone, 0 lost``."""
    entries = attempts(reader)
    count, redone, lost = interruptions(reader), redone_steps(entries), missing_steps(reader)
    text = f"{learned(reader)} in {counted(reader.last_step, 'step')}; {counted(count, 'interruption')}"
    if count:
        text += f", {counted(redone, 'step')} done again"
        text += f", {counted(lost, 'step')} lost" if lost is not None else ""
    return text


def learned(reader: RunReader) -> str:
    rows = reader.evaluations
    if not rows:
        return "No held-out evaluation"
    if len(rows) == 1:
        return f"Held-out pass rate {with_interval(rows[0])} at step {rows[0]['step']}"
    return f"Held-out pass rate {with_interval(rows[0])} to {with_interval(rows[-1])}"


def judgement(reader: RunReader) -> str:
    """What the paired interval of the change since the first evaluation says."""
    rows = reader.evaluations
    name = "eval/change_since_first"
    if len(rows) < 2 or f"{name}_low" not in rows[-1]:
        return "too early to say"
    low, high = rows[-1][f"{name}_low"], rows[-1][f"{name}_high"]
    return "it learned" if low > 0 else "it got worse" if high < 0 else "no change beyond chance"


def with_interval(row: dict[str, Any]) -> str:
    text = f"{row[MAIN]:.2f}"
    low, high = row.get(f"{MAIN}_low"), row.get(f"{MAIN}_high")
    return text if low is None or high is None else f"{text} [{low:.2f}, {high:.2f}]"


def tiles(reader: RunReader) -> list[dict[str, str]]:
    """The few numbers that matter, each with a line that explains it."""
    found = []
    if reader.evaluations:
        last = reader.evaluations[-1]
        change = last.get("eval/change_since_first")
        bounds = [last.get(f"eval/change_since_first_{end}") for end in ("low", "high")]
        detail = f"95% {last.get(f'{MAIN}_low', float('nan')):.3f} to {last.get(f'{MAIN}_high', float('nan')):.3f}"
        if change is not None and None not in bounds:
            detail += f"; {change:+.3f} [{bounds[0]:+.3f}, {bounds[1]:+.3f}] since the first"
        found.append(tile("Held-out pass rate", f"{last[MAIN]:.3f}", detail))
    rewards = [value for _, value in curves.finite(reader.training, "reward")]
    if rewards:
        detail = f"mean of the last {len(rewards[-RECENT:])}; at first {fmean(rewards[:RECENT]):.3f}"
        found.append(tile("Training reward", f"{fmean(rewards[-RECENT:]):.3f}", detail))
    of = f" of {reader.max_steps:,}" if reader.max_steps else ""
    found.append(tile("Step", f"{reader.last_step:,}{of}", reader.status))
    seconds = [value for _, value in curves.finite(reader.training, "step_time")]
    if seconds:
        speed = [value for _, value in curves.tokens_per_second(reader)][-RECENT:]
        detail = f"{fmean(speed):,.0f} tokens a second" if speed else "without evaluations and saves"
        found.append(tile("Seconds a step", f"{fmean(seconds[-RECENT:]):.2f}", detail))
    if current := stages(reader):
        found.append(tile("Stage", current[-1]["stage"], f"since step {current[-1]['start']}"))
    entries = attempts(reader)
    detail = f"{counted(redone_steps(entries), 'step')} done again"
    if (lost := missing_steps(reader)) is not None:
        detail += f", {lost} lost"
    found.append(tile("Interruptions", str(interruptions(reader)), detail))
    return found


def tile(label: str, value: str, detail: str) -> dict[str, str]:
    return {"label": label, "value": value, "detail": detail}


def facts(reader: RunReader) -> list[tuple[str, str]]:
    """What was run, with what, where: rows of two cells."""
    if reader.record is None:
        return [("run.json", "there is none: the journal was written by a script of its own")]
    content, config = reader.record.content, reader.config
    run, grpo = config.get("run", {}), config.get("grpo", {})
    data = content.get("data", {})
    git = content.get("git")
    last = content["attempts"][-1] if content["attempts"] else {}
    found = [
        ("Model", run.get("model_name") or "the embedded model"),
        ("Training problems", problems_text(data.get("train", {}))),
        ("Held-out problems", problems_text(data.get("heldout", {}))),
        ("Command", command(reader)),
        ("Run", f"{content['run_id']}, begun {content['created']}"),
        ("Seed", str(grpo.get("seed", "?"))),
        ("Commit", "not a git tree" if git is None else git["commit"][:12] + (", changed" if git["changed"] else "")),
        ("Versions", ", ".join(f"{name} {version}" for name, version in content["versions"].items())),
        ("Machine", f"{last.get('host', '?')}, {counted(last.get('world_size', 1), 'process', 'processes')}"),
        ("Sandbox", str(last.get("isolation", "?"))),
    ]
    return found


def problems_text(data: dict[str, Any]) -> str:
    if not data:
        return "unknown"
    return f"{data.get('count', 0):,} ({data.get('source', '?')}; {str(data.get('fingerprint', ''))[:12]})"


def command(reader: RunReader) -> str:
    """The command line of the last start; for older runs, whose record lacks it, one that goes on."""
    started = reader.record.content["attempts"] if reader.record else []
    words = started[-1].get("command") if started else None
    return shlex.join(words or ["grpo", "train", "--output_dir", str(reader.folder)])


def command_to_go_on(reader: RunReader) -> str:
    """The line that continues the run from here; its folder is enough, but for secrets, which are to be filled in."""
    words = shlex.split(command(reader))
    launcher = [grpo()] if "train" not in words or words[0] == "grpo" else [shlex.join(words[: words.index("train")])]
    flag, hidden = "", []
    for word in words:
        flag = word.partition("=")[0] if word.startswith("--") else flag
        if REDACTED in word:
            hidden.append(flag)
    return " ".join([*launcher, "resume", shlex.quote(str(reader.folder)), *(f"{flag} ..." for flag in hidden)])


def grpo() -> str:
    """The command as it can be typed here: ``grpo`` where the shell finds this one, else its path."""
    own = Path(sys.executable).parent / "grpo"
    found = shutil.which("grpo")
    if found is not None and own.exists() and Path(found).samefile(own):
        return "grpo"
    if not own.exists():
        return f"{shlex.quote(sys.executable)} -m grpo_project.cli"
    return shlex.quote(str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def age(seconds: float) -> str:
    """``12 s``, ``5 min``, ``3 h``, ``2 days``: how long ago in one unit."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def updated(reader: RunReader) -> float:
    """Time of the newest row or event (Unix time); now if there is none."""
    times = [entry["time"] for entry in (*reader.rows[-1:], *reader.all_events[-1:]) if "time" in entry]
    return max(times, default=time.time())
