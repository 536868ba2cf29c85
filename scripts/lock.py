"""Writes requirements*.txt: the newest versions within pyproject.toml's ranges that go together. `make lock` runs it.

One version of each package serves every Python and system that torch has wheels for. README.md names the same Gradio
for a Space, the Dockerfile the same torch, .pre-commit-config.yaml the same ruff. Needs uv, and PyPI.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ZEROGPU_TORCH = "2.11.0"
"""The newest that ZeroGPU lists, of 2.8 to 2.11: https://huggingface.co/docs/hub/spaces-zerogpu"""
LOCKS = {
    "requirements-dev.txt": ("tests, lint and benchmarks run on: requirements.txt and more", "--group dev", ""),
    "requirements.txt": ("the app and the commands run on", "", ""),
    "requirements-zerogpu.txt": (
        "a Space on ZeroGPU runs on: requirements.txt with the newest torch that ZeroGPU lists",
        "",
        f"torch=={ZEROGPU_TORCH}",
    ),
}
"""File → what it is for, the groups of pyproject.toml that it holds, and what is required of it beyond those."""
HEADER = """\
# What {purpose}.
# `make lock` chose these versions of all packages, direct and indirect, from the ranges in pyproject.toml.
# Any build of torch will do. What its CUDA build for Linux needs is not here: that build names exact versions itself.
"""


def resolve(options: str, extra: str, chosen: Path) -> None:
    """Requirements at one version each, to the file `chosen`. A version that stands there already is kept."""
    how = "--universal --python-version 3.11 --fork-strategy fewest --quiet --no-config --no-header --no-annotate"
    command = ["uv", "pip", "compile", *how.split(), *options.split(), "--output-file", str(chosen), "pyproject.toml"]
    subprocess.run([sys.executable, "-m", *command, "-"], check=True, cwd=ROOT, input=extra, text=True)


def replace(path: str, before: str, version: str) -> None:
    """In a file of the repository, the word after `before` becomes `version`."""
    old = (ROOT / path).read_text(encoding="utf-8")
    new, found = re.subn(rf"(?m)^({before}).+$", rf"\g<1>{version}", old)
    assert found == 1, f"{path} has {found} lines of {before!r}"
    (ROOT / path).write_text(new, encoding="utf-8")


def main() -> None:
    """Everything is upgraded at once, together with what a Space adds; each lock then keeps its part of that."""
    written = {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = Path(folder, "chosen.txt")
        resolve("--group dev --group space", "", chosen)
        for name, (purpose, options, extra) in LOCKS.items():
            resolve(options, extra, chosen)
            # Of all that is required here, only torch's CUDA build wants packages for Linux alone.
            pins = [line for line in chosen.read_text().splitlines() if "sys_platform == 'linux'" not in line]
            written[name] = HEADER.format(purpose=purpose) + "\n".join(pins) + "\n"
    for name, text in written.items():
        (ROOT / name).write_text(text, encoding="utf-8")
    versions = dict(re.findall(r"(?m)^(gradio|torch|ruff)==(\S+)$", written["requirements-dev.txt"]))
    replace("README.md", "sdk_version: ", versions["gradio"])
    replace("Dockerfile", "ARG TORCH_VERSION=", versions["torch"])
    replace(".pre-commit-config.yaml", "    # The locked ruff: .+\n    rev: v", versions["ruff"])


if __name__ == "__main__":
    main()
