"""A small run of the script that kills whoever changes memories."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the writers are forked")
def test_whatever_is_killed_every_memory_loads_and_nothing_is_left_behind(
    tiny_memory_dir: Path, llava_folder: Path, tiny_clip_dir: Path
) -> None:
    models = ["--backbone", str(llava_folder), "--clip", str(tiny_clip_dir)]
    command = [sys.executable, "scripts/kill_writers.py", "--kills", "10", "--memory", str(tiny_memory_dir), *models]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 kills in " in done.stdout
