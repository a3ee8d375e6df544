"""The terminal in Chinese: every message has an entry, texts are found by their templates, records stay English."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from grpo_project.cli import main
from grpo_project.locale import Catalogue, Translator, from_environment, take_flag, use

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import messages  # noqa: E402

HOLE = re.compile(r"\{\d+\}")
CHINESE_SIGN = re.compile("[\u4e00-\u9fff]|\\\\u[4-9][0-9a-f]{3}")
CHINESE = messages.CATALOGUES / "zh" / "LC_MESSAGES" / "messages.po"


@pytest.fixture(scope="module")
def chinese() -> Translator:
    return Translator(Catalogue.read(CHINESE))


@pytest.fixture
def english_afterwards() -> Iterator[None]:
    yield
    use("en")


def grpo(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    return subprocess.run(
        [sys.executable, "-m", "grpo_project.cli", *argv],
        env={**clean, **environment, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
    )


def test_every_message_has_an_entry() -> None:
    entries = Catalogue.read(CHINESE).entries
    lacking = [f"{place}: {text}" for text, place in messages.templates().items() if text not in entries]
    assert not lacking, "run `python tools/messages.py`, and translate what it adds:\n" + "\n".join(lacking)


def test_a_translation_has_the_places_of_its_template() -> None:
    for text, translation in Catalogue.read(CHINESE).entries.items():
        if translation:
            assert sorted(HOLE.findall(text)) == sorted(HOLE.findall(translation)), text


def test_the_catalogue_is_read_as_it_was_written(tmp_path: Path) -> None:
    entries = {'a "quoted" {1}': "引号 {1}", "back\\slash": "", "tab\there": "制表"}
    path = tmp_path / "messages.po"
    Catalogue(entries).write(path, dict.fromkeys(entries, "x.py"))
    assert Catalogue.read(path).entries == entries


def test_the_source_is_looked_through_for_messages() -> None:
    source = (
        'def f(x):\n    """Not this text."""\n'
        '    raise ConfigError(f"--x is {x:g}; " "it must be " + name(f"at least {2}"))\n'
    )
    assert list(messages.of_source(source)) == ["--x is {1}; it must be", "at least {1}"]
    assert list(messages.of_source('logger.warning("lost %d of %s rows", 1, 2)')) == ["lost {1} of {2} rows"]


@pytest.mark.parametrize(
    ("english", "expected"),
    [
        ("--eval_split is 0.7; it must be from 0 (none) to 0.5", "--eval_split 是 0.7；应在 0（不留出）到 0.5 之间"),
        (
            "In stage mixed since step 25, because the pass rate of stage expert is above its threshold of 0.50 "
            "(pass rate 0.91 (0.75 to 0.98, from 42 results)).",
            "自第 25 步起处于阶段 mixed，因为阶段 expert 的通过率高于其阈值 0.50"
            "（通过率 0.91（0.75 到 0.98，来自 42 个结果））。",
        ),
        (
            "data.jsonl: 2 faults in 1 rows, nothing was loaded\n"
            "  row 9, field promt: is not a field of this format; did you mean 'prompt'?",
            "data.jsonl：1 行中有 2 处错误，未加载任何内容\n"
            "  第 9 行，字段 promt：不是本格式的字段；是否想写 'prompt'？",
        ),
        (
            "90% of the groups of the last 8 batches have no variance, so there is no gradient: all their completions "
            "fail. Go to easier problems, give credit for single tests, or raise --num_generations.",
            "最近 8 个批次中 90% 的组没有方差，因而没有梯度：它们的样本全部失败。"
            "请换更容易的题，按单个测试给分，或调大 --num_generations。",
        ),
        (
            "In stage foundation at step 3: pass rate 0.89 (0.20 to 1.00, from 4 results), threshold 0.70; missing to "
            "advance: a lower confidence bound above 0.70. 36 problems without a level are not sorted yet.",
            "第 3 步处于阶段 foundation：通过率 0.89（0.20 到 1.00，来自 4 个结果），"
            "阈值 0.70；前进还缺：置信下界高于 0.70. 36 道没有难度级别的题尚未归类。",
        ),
        ("nobody has translated this: 1; or that", "nobody has translated this: 1; or that"),
        ("step 3/60  reward 0.5", "step 3/60  reward 0.5"),
    ],
)
def test_finished_texts_are_translated(chinese: Translator, english: str, expected: str) -> None:
    assert chinese(english) == expected


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANGUAGE": "zh:en", "LANG": "de_DE"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({}, "en"),
    ],
)
def test_the_environment_chooses_as_for_gettext(environment: dict[str, str], language: str) -> None:
    assert from_environment(environment) == language


def test_the_flag_is_taken_out_wherever_it_stands() -> None:
    assert take_flag(["--lang", "zh", "status", "x"]) == (["status", "x"], "zh")
    assert take_flag(["status", "x", "--lang=zh_CN"]) == (["status", "x"], "zh")
    with pytest.raises(ValueError, match="en or zh"):
        take_flag(["status", "--lang", "xx"])


def test_the_terminal_speaks_chinese_and_records_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], english_afterwards: None
) -> None:
    assert main(["train", "--lang", "zh", "--dataset_path", "nowhere.jsonl", "--output_dir", str(tmp_path / "x")]) == 2
    assert "没有这个文件" in capsys.readouterr().err
    run = tmp_path / "run"
    done = grpo(
        *("train", "--output_dir", str(run), "--max_steps", "1", "--per_device_train_batch_size", "4"),
        *("--eval_every_n_steps", "0", "--max_completion_length", "8"),
        LANG="zh_CN.UTF-8",
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stderr
    assert "在 2,000 道题上训练" in done.stdout
    for file in [run / "run.json", *(run / "journal").glob("*.jsonl")]:
        text = file.read_text(encoding="utf-8")
        assert not CHINESE_SIGN.search(text), file
    assert "--lang" not in (run / "run.json").read_text()
    assert main(["status", str(run), "--lang", "zh"]) == 0 and "已完成" in capsys.readouterr().out
    assert main(["status", str(run), "--lang", "zh", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"
