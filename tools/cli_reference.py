# ruff: noqa: E501 (Chinese signs count twice)
"""Writes docs/cli.md and docs/zh/cli.md: what each command prints for ``--help``.

    python tools/cli_reference.py

``tests/test_docs.py`` says when they are stale. Defaults that hang on the machine are those of one without an accelerator.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from pathlib import Path

from grpo_project.cli import COMMANDS, main
from grpo_project.locale import Catalogue, Translator, use

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"en": ROOT / "docs" / "cli.md", "zh": ROOT / "docs" / "zh" / "cli.md"}
INTRODUCTION = {
    "en": """# The command line

What each command prints for `--help`, made by `tools/cli_reference.py`. `grpo train --help` shows the flags that most runs need,
with the defaults of the run that the rest of the command line describes; below are all of them (`--help-all`), TRL's too,
with the defaults of the embedded run on a machine without a GPU.

Every command takes `--lang en|zh`: what the terminal speaks (default: `LANGUAGE`, `LC_ALL`, `LC_MESSAGES`, `LANG`, the first that is
set). Records and JSON output are in English in any case. [Exit codes](troubleshooting.md#exit-codes).
""",
    "zh": """# 命令行

每个命令对 `--help` 打印的内容，由 `tools/cli_reference.py` 生成。`grpo train --help` 显示大多数运行需要的参数，默认值是命令行其余部分所描述的
那次运行的；下面是全部参数（`--help-all`），包括 TRL 的，默认值是没有 GPU 的机器上内置运行的。

每个命令都接受 `--lang en|zh`：终端用什么语言（默认：`LANGUAGE`、`LC_ALL`、`LC_MESSAGES`、`LANG` 中第一个已设置的）。记录和 JSON 输出始终是英文。
[退出码](troubleshooting.md#退出码)。
""",
}


def printed(*argv: str) -> str:
    """What a command prints, at a width of 100."""
    os.environ["COLUMNS"] = "100"
    use("en")
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([*argv, "--lang", "en"])
    return re.sub(r"[ \t]+$", "", out.getvalue().strip("\n"), flags=re.M)


def pages() -> dict[str, str]:
    """The text of the page by language."""
    catalogue = ROOT / "grpo_project" / "locale" / "zh" / "LC_MESSAGES" / "messages.po"
    speak = {"en": lambda text: text, "zh": Translator(Catalogue.read(catalogue))}
    blocks = {name: printed(name, "--help-all" if name == "train" else "--help") for name in COMMANDS}
    found = {}
    for language, translated in speak.items():
        parts = [INTRODUCTION[language]]
        for name, summary in COMMANDS.items():
            text = translated(summary)
            parts.append(f"## grpo {name}\n\n{text[0].upper() + text[1:]}\n\n```text\n{blocks[name]}\n```\n")
        found[language] = "\n".join(parts)
    return found


if __name__ == "__main__":
    for language, text in pages().items():
        PAGES[language].write_text(text, encoding="utf-8")
        print(PAGES[language].relative_to(ROOT))
    sys.exit(0)
