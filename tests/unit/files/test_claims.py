"""Claims: what all processes on one disk have together is counted, and falls with whoever held it."""

import subprocess
import sys
from pathlib import Path

from gcr_core.files.claims import Claims

HOLDER = """
import sys
from pathlib import Path
from gcr_core.files.claims import Claims

claims = Claims(Path(sys.argv[1]))
with claims.counted():
    held = claims.take("theirs", 7)
print("held", flush=True)
sys.stdin.read()
"""


def test_claims_are_counted_until_they_are_given_back(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "claims")
    with claims.counted() as held:
        assert held == []
        mine, again = claims.take("mine", 5), claims.take("mine")
    with claims.counted() as held:
        assert sorted(held) == [("mine", 0), ("mine", 5)]
    mine.give_back()
    with claims.counted() as held:
        assert held == [("mine", 0)]
    again.give_back()
    assert [path.name for path in claims.folder.iterdir()] == ["lock"]


def test_a_claim_of_another_process_counts_until_that_is_killed(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        with claims.counted() as held:
            assert held == [("theirs", 7)]
        holder.kill()
        holder.wait()
    with claims.counted() as held:
        assert held == []
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
