"""What a project is expected to have: targets that `make` lists, `gcr`, versions that agree wherever they stand."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_make_alone_lists_every_target_with_what_it_is_for():
    listed = dict(re.findall(r"^make ([\w-]+) +(\S.*)$", run("make").stdout, re.MULTILINE))
    assert list(listed) == TARGETS


def test_contributors_are_told_of_every_target():
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(TARGETS) - {"help"} <= set(re.findall(r"`make ([\w-]+)", told))


def test_gcr_is_the_module_by_a_shorter_name(tiny_memory_dir):
    [gcr] = [EntryPoint(name, value, "console_scripts") for name, value in PROJECT["scripts"].items()]
    assert gcr.name == "gcr"
    script = [sys.executable, "-c", f"import sys; from {gcr.module} import {gcr.attr}; sys.exit({gcr.attr}())"]
    for words in (["info", str(tiny_memory_dir)], ["info", "nowhere"]):
        done, by_module = run(*script, *words), run(sys.executable, "-m", "gcr_core", *words)
        assert (done.returncode, done.stdout, done.stderr) == (by_module.returncode, by_module.stdout, by_module.stderr)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("gcr_core: 'nowhere' is no folder here")


def test_a_commit_is_checked_by_the_ruff_that_is_locked():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    [ruff] = [repository["rev"] for repository in hooks if repository["repo"].endswith("/ruff-pre-commit")]
    lock = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    assert f"\nruff=={ruff.removeprefix('v')}\n" in lock


def test_the_changelog_has_this_version_and_what_came_after_it():
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[:2] == ["Unreleased", PROJECT["version"]]


def test_the_container_to_develop_in_is_set_up_by_make():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    program, *words = container["postCreateCommand"].split()
    assert program == "make"
    assert {word for word in words if "=" not in word} <= {*TARGETS, ".venv/.dev"}
    assert container["forwardPorts"] == [7860]
