"""A small run of the script that fuzzes memories."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are Linux's")
def test_mutated_memories_open_or_are_refused_in_one_line(tmp_path: Path, tiny_memory_dir: Path) -> None:
    command = [sys.executable, "scripts/fuzz_memories.py", "--count", "12", "--memory", str(tiny_memory_dir)]
    done = subprocess.run(
        [*command, "--keep", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'opened'" in done.stdout
    assert "'refused'" in done.stdout
    assert "'answers': 1" in done.stdout
    assert not any(tmp_path.iterdir())
