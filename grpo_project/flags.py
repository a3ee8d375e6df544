"""The flags that a command line may hold, and its words, read without importing torch: mistakes are told at once.

What TRL and transformers know is read from the source of their configuration classes, as text; a test compares it with
their own parser. Nothing here decides what a run does.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_project.errors import ConfigError

ALIASES = {
    "model": "model_name",
    "model_name_or_path": "model_name",
    "dataset": "dataset_path",
    "eval_dataset": "eval_dataset_path",
}
"""Other names of our flags, in every command."""
ELSEWHERE = {
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "steps": "max_steps",
    "group_size": "num_generations",
    "n_samples": "num_generations",
    "rollout_n": "num_generations",
    "max_new_tokens": "max_completion_length",
    "max_tokens": "max_completion_length",
    "max_response_length": "max_completion_length",
    "kl_coef": "beta",
    "output": "output_dir",
    "out": "output_dir",
    "resume": "resume_from_checkpoint",
    "wandb": "report_to",
    "lora": "use_peft",
    "lora_rank": "lora_r",
    "grad_accum": "gradient_accumulation_steps",
}
"""What other trainers call a flag, whose letters would lead elsewhere."""

SOURCES = (
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("trl", "trainer/grpo_config.py", "GRPOConfig"),
    ("trl", "trainer/model_config.py", "ModelConfig"),
)
"""Package, file and class of the libraries' flags; later ones override earlier ones."""

TRUE, FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")  # as transformers reads them


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: ``kind`` is ``int``, ``float``, ``bool``, ``str`` or, for what only its library can read, ``other``."""

    name: str
    kind: str
    default: Any
    help: str
    library: str
    choices: tuple[str, ...] = ()
    optional: bool = False
    """``none`` is a value."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A flag of a command line with the words of its value."""

    name: str
    """Without dashes and ``no_``, with underscores; an alias's own name is replaced."""
    words: tuple[str, ...]
    """As they are to be written again."""
    values: tuple[str, ...]
    typed: str
    """The flag as it was typed, without its value."""


def segments(argv: Sequence[str], known: Mapping[str, Flag]) -> list[Segment]:
    """The flags of a command line, in order.

    Raises:
        ConfigError: a word that belongs to no flag, an unknown flag, or two names of one flag with different values.
    """
    found: list[Segment] = []
    words: list[list[str]] = []
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            words.append([word])
        elif words:
            words[-1].append(word)
        else:
            raise ConfigError(f"unexpected argument {word!r}; flags begin with `--` (`grpo train --help` lists them)")
    for first, *rest in words:
        typed, equals, value = first.partition("=")
        name = ALIASES.get(plain := typed[2:].replace("-", "_"), plain)
        if name not in known and name.startswith("no_") and getattr(known.get(name[3:]), "default", None) is True:
            found.append(Segment(name[3:], (first, *rest), ("false",), typed))
            continue
        if name not in known and name != "config":
            raise ConfigError(f"unknown argument {typed}; {_nearest(typed, known)}")
        written = (f"--{name}={value}",) if equals else (f"--{name}",)
        found.append(Segment(name, (*written, *rest), (value, *rest) if equals else tuple(rest), typed))
    _refuse_two_names(found)
    return found


def require_known(names: Iterable[str], known: Mapping[str, Flag], where: str) -> None:
    """Raise ``ConfigError`` for the first name that is no flag."""
    for name in names:
        if ALIASES.get(name, name) not in known:
            raise ConfigError(f"{where}: unknown argument --{name}; {_nearest(f'--{name}', known)}")


def typed_value(flag: Flag, values: Sequence[str]) -> Any:
    """The value of a flag as far as it can be told here: text for ``other``, a list for several words.

    Raises:
        ConfigError: it is not of the flag's kind, or none of its choices.
    """
    text = values[0] if values else None
    given = f"--{flag.name} {' '.join(values)}".rstrip()
    if flag.kind == "bool":
        if text is None:
            return True
        if text.lower() not in (*TRUE, *FALSE):
            raise ConfigError(f"{given}: it must be true or false")
        return text.lower() in TRUE
    if text is None:
        raise ConfigError(f"{given} needs a value (`grpo train --help` lists all flags)")
    if flag.optional and len(values) == 1 and text.lower() in ("none", "null"):  # as TRL's parser reads them
        return None
    if len(values) > 1 and flag.kind != "other":
        raise ConfigError(f"{given}: it takes one value; quote a value with spaces")
    if flag.kind in ("int", "float"):
        try:
            return int(text) if flag.kind == "int" else float(text)
        except ValueError:
            what = "a whole number" if flag.kind == "int" else "a number"
            raise ConfigError(f"{given}: it must be {what}") from None
    if flag.choices and text not in flag.choices:
        raise ConfigError(f"{given}: it must be one of {', '.join(flag.choices)}")
    return list(values) if len(values) > 1 else text


@functools.cache
def library_flags() -> Mapping[str, Flag]:
    """The flags of ``GRPOConfig`` and ``ModelConfig``, from their source.

    Raises:
        ConfigError: TRL or transformers is not installed.
    """
    found: dict[str, Flag] = {}
    for package, file, name in SOURCES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ConfigError(f"{package} is not installed in this Python; install this package with its dependencies")
        tree = ast.parse(Path(spec.origin).parent.joinpath(file).read_text(encoding="utf-8"))
        (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        found |= {flag.name: flag for node in body if (flag := _flag(node, name.lstrip("_")))}
    return found


def _flag(node: ast.stmt, library: str) -> Flag | None:
    """The flag of a dataclass field; ``None`` for anything else."""
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
        return None
    keywords = {}
    if isinstance(node.value, ast.Call):
        keywords = {keyword.arg: keyword.value for keyword in node.value.keywords}
    elif node.value is not None:
        keywords = {"default": node.value}
    if "ClassVar" in ast.unparse(node.annotation) or _literal(keywords.get("init")) is False:
        return None
    metadata = keywords.get("metadata")
    text, choices = "", ()
    if isinstance(metadata, ast.Dict):
        entries = {_literal(key): value for key, value in zip(metadata.keys, metadata.values, strict=True)}
        text, choices = _literal(entries.get("help")) or "", tuple(_literal(entries.get("choices")) or ())
    annotation = ast.unparse(node.annotation)
    default, optional = _literal(keywords.get("default")), is_optional(annotation)
    return Flag(node.target.id, kind_of(annotation), default, text, library, choices, optional)


def kind_of(annotation: str) -> str:
    """``int`` for ``int | None``; ``other`` for what may be of several kinds."""
    parts = [part.strip() for part in annotation.split("|") if part.strip() != "None"]
    return parts[0] if len(parts) == 1 and parts[0] in ("int", "float", "bool", "str") else "other"


def is_optional(annotation: str) -> bool:
    return "None" in [part.strip() for part in annotation.split("|")]


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None  # computed where it stands: a text put together, an enumeration's member


def _refuse_two_names(found: Sequence[Segment]) -> None:
    first: dict[str, Segment] = {}
    for segment in found:
        before = first.setdefault(segment.name, segment)
        if before.typed != segment.typed and before.values != segment.values:
            raise ConfigError(
                f"{before.typed} {' '.join(before.values)} and {segment.typed} {' '.join(segment.values)} differ; "
                "give one"
            )


def _nearest(typed: str, known: Mapping[str, Flag]) -> str:
    if (meant := ELSEWHERE.get(typed.lstrip("-").replace("-", "_"))) in known:
        return f"did you mean --{meant}?"
    options = [f"--{name}" for name in (*known, *ALIASES)]
    close = difflib.get_close_matches(typed.replace("-", "_").replace("__", "--", 1), options, n=1)
    return f"did you mean {close[0]}?" if close else "`grpo train --help` lists all flags"
