"""A small run of the script that attacks an app."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of processes is told by Linux")
def test_an_attack_is_refused_while_another_visitor_is_answered():
    options = ["--seconds", "5", "--within", "600", "--attacks", "floods", "bodies"]
    command = [sys.executable, "scripts/attack.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert "the other visitor: " in done.stdout and "errors {}" in done.stdout, done.stdout + done.stderr
    assert " above the " in done.stdout and "named after" in done.stdout
