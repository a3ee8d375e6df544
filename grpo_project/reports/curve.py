"""The learning curve of one run, or of several seeds of it, as an SVG picture.

Every run's own curve is thin; the mean over runs is thick. Where all runs have evaluations, levels are drawn beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean

from grpo_project.errors import ConfigError
from grpo_project.problems.problem import LEVELS
from grpo_project.record.run_directory import MAIN_METRIC, Run

COLOURS = {
    "all": "#1f2937",
    "foundation": "#2563eb",
    "elementary": "#0891b2",
    "intermediate": "#16a34a",
    "advanced": "#d97706",
    "expert": "#dc2626",
}
WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 130, 44, 44  # margins; the right one holds the labels

Curve = Mapping[float, float]
"""Pass rates by step, or by whatever else the picture has below."""


def learning_curve(output_dirs: Sequence[Path], title: str) -> str:
    """Held-out pass rate against optimizer steps, overall and by level.

    Raises:
        ConfigError: a folder holds no run, or the runs share no two evaluated steps.
    """
    names = {"all": MAIN_METRIC} | {level: f"eval/{level}/test_pass_rate" for level in LEVELS}
    runs = [Run.open(folder).metrics("eval", list(names.values())) for folder in output_dirs]
    curves = {
        label: [{row["step"]: row[name] for row in rows if name in row} for rows in runs]
        for label, name in names.items()
    }
    shared = sorted(set.intersection(*(set(curve) for curve in curves["all"])))
    if len(shared) < 2:
        raise ConfigError("there is no curve to draw: the runs share fewer than two evaluated steps")
    drawn = {
        label: {step: fmean(curve[step] for curve in found) for step in shared}
        for label, found in curves.items()
        if all(set(curve) >= set(shared) for curve in found)
    }
    last = shared[-1]
    parts = axes(last, title, "optimizer step")
    parts += [line(curve, last, COLOURS["all"], 1, 0.35) for curve in curves["all"] if len(runs) > 1]
    for label, curve in reversed(drawn.items()):
        parts.append(line(curve, last, COLOURS[label], 4 if label == "all" else 1.5))
    parts += labels({label: (curve[last], COLOURS[label]) for label, curve in drawn.items()}, bold="all")
    return picture(parts)


def picture(parts: Sequence[str]) -> str:
    """The SVG document around its parts."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
    return f'{head}font-size="13">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"


def x_of(step: float, last: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * step / last


def y_of(rate: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - rate)


def axes(last: int, title: str, unit: str) -> list[str]:
    parts = [f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>']
    for tenths in range(0, 11, 2):
        y = y_of(tenths / 10)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#6b7280">{tenths / 10:.1f}</text>')
    count = next((n for n in (5, 6, 4, 3) if last % n == 0), 1)
    for step in range(0, last + 1, last // count):
        x = x_of(step, last)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 22}" text-anchor="middle" fill="#6b7280">{step}</text>')
    middle = x_of(last / 2, last)
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 5}" text-anchor="middle" fill="#374151">{escape(unit)}</text>')
    return parts


def line(curve: Curve, last: float, colour: str, width: float, opacity: float = 1.0) -> str:
    points = " ".join(
        f"{x_of(step, last):.1f},{y_of(rate):.1f}" for step, rate in sorted(curve.items()) if step <= last
    )
    style = f'stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}" fill="none"'
    return f'<polyline points="{points}" {style} stroke-linejoin="round"/>'


def labels(ends: Mapping[str, tuple[float, str]], bold: str) -> list[str]:
    """Names with their last values and colours at the right end, pushed apart where they would overlap."""
    parts, floor = [], float("-inf")
    for label, (rate, colour) in sorted(ends.items(), key=lambda item: -item[1][0]):
        y = floor = max(y_of(rate), floor + 15)
        weight = "bold" if label == bold else "normal"
        text = f"{escape(label)} {rate:.2f}"
        x = WIDTH - RIGHT + 8
        parts.append(f'<text x="{x}" y="{y + 4:.1f}" fill="{colour}" font-weight="{weight}">{text}</text>')
    return parts
