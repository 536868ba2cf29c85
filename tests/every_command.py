"""What a test starts to see what the commands leave on stderr: python tests/every_command.py COMMANDS

COMMANDS is JSON: a list of command lines, each a list of words. All run in this process, as `python -m gcr_core` runs
them; then one memorises once more with an adapter, as the commands do with a large backbone. Ends with status 1 where
one of them does not end well.
"""

import json
import runpy
import sys

from gcr_core.models import backbone


def run(words: list[str]) -> None:
    sys.argv = ["gcr_core", *words]
    try:
        runpy.run_module("gcr_core", run_name="__main__", alter_sys=True)
    except SystemExit as left:
        if left.code:
            sys.exit(f"gcr_core {' '.join(words)} ended with {left.code}")


if __name__ == "__main__":
    commands = json.loads(sys.argv[1])
    for words in commands:
        run(words)
    backbone.SMALL_PARAMETERS = 0
    run([*next(words for words in commands if words[0] == "memorize"), "--seed", "1"])
