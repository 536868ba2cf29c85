"""What hosts the app: the Space's configuration at the top of the README, docs/hosting.md, the image."""

import re
import shlex
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from gcr_core.files.hub import REPOSITORY_ID
from gcr_core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import check_dockerfile  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")
HOSTING = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
LOCK = {
    requirement.name: requirement
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
    for requirement in [Requirement(line)]
}
KNOWN_KEYS = """
    title emoji colorFrom colorTo sdk python_version sdk_version suggested_hardware suggested_storage app_file app_port
    app_build_command base_path fullWidth header short_description models datasets tags thumbnail pinned license
    hf_oauth hf_oauth_scopes hf_oauth_expiration_minutes hf_oauth_authorized_org disable_embedding
    startup_duration_timeout custom_headers preload_from_hub
"""
"""Of the Spaces configuration reference, https://huggingface.co/docs/hub/spaces-config-reference, and of any card."""
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module")
def configuration() -> dict:
    _, front, _ = README.split("---\n", 2)
    return yaml.safe_load(front)


def test_the_readme_opens_with_a_configuration_of_known_keys(configuration):
    assert README.startswith("---\n")
    assert set(configuration) <= set(KNOWN_KEYS.split())


def test_its_values_are_of_the_kinds_that_spaces_take(configuration):
    assert {configuration["colorFrom"], configuration["colorTo"]} <= COLOURS
    assert len(configuration["emoji"]) == 1
    assert len(configuration["short_description"]) <= 60
    assert configuration["hf_oauth"] is True
    assert configuration["hf_oauth_scopes"] == ["contribute-repos"]
    assert (ROOT / configuration["app_file"]).is_file()


def test_the_spaces_gradio_is_the_locked_one_and_its_python_one_that_the_project_runs_on(configuration):
    assert configuration["sdk"] == "gradio"
    assert str(LOCK["gradio"].specifier) == f"=={configuration['sdk_version']}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert isinstance(configuration["python_version"], str)
    assert SpecifierSet(project["requires-python"]).contains(configuration["python_version"])


def test_what_is_preloaded_is_models_that_the_space_names_and_files_that_are_fetched(configuration):
    for line in configuration["preload_from_hub"]:
        id, files, *revision = line.split()
        assert REPOSITORY_ID.fullmatch(id) and id in configuration["models"]
        assert all(re.fullmatch(r"[\w.-]+\.(json|safetensors|jinja|model|txt)", name) for name in files.split(","))
        assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in revision)


def test_every_variable_that_a_document_names_is_a_setting():
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {name for path in documents for name in re.findall(r"\bGCR_[A-Z_]+\b", path.read_text(encoding="utf-8"))}
    assert named == {f"GCR_{name.upper()}" for name in Settings.__dataclass_fields__}


def test_the_table_of_settings_has_each_with_its_default():
    rows = dict(re.findall(r"^\| `(GCR_[A-Z_]+)` \| (.+?) \|", HOSTING, re.MULTILINE))
    for name, field in Settings.__dataclass_fields__.items():
        told, default = rows.pop(f"GCR_{name.upper()}"), field.default
        if isinstance(default, str):
            assert told == f"`{Path(default).relative_to(ROOT).as_posix()}`"
        elif isinstance(default, int):
            forms = {f"{default:,}", f"{int(default)}", f"{default // 2**20} MiB", f"{default // 2**30} GiB"}
            assert told.partition(";")[0] in forms, name
    assert not rows


def test_what_zerogpu_lends_is_what_its_documentation_says_today():
    """A free account has 5 minutes a day, torch 2.8 to 2.11 is listed: https://huggingface.co/docs/hub/spaces-zerogpu"""
    assert Settings.max_gpu_seconds == 5 * 60
    assert "the 5 minutes of a free account's day" in " ".join(HOSTING.split())
    listed = SpecifierSet(">=2.8,<2.12")
    lock = (ROOT / "requirements-zerogpu.txt").read_text(encoding="utf-8")
    [installed] = re.findall(r"(?m)^torch==(\S+)$", lock)
    assert listed.contains(installed)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [torch] = [Requirement(line) for line in project["dependencies"] if Requirement(line).name == "torch"]
    assert torch.specifier.contains(installed) and torch.specifier.contains("2.8.0")


def test_every_file_that_the_words_on_hosting_name_is_there():
    words = re.sub(r"\]\([^)]*\)", "]", HOSTING)
    named = set(re.findall(r"(?<![\w./-])(?:[\w-]+/)*[\w-]+\.(?:py|md|txt|toml)\b", words))
    assert "scripts/check_dockerfile.py" in named
    assert all((ROOT / path).is_file() for path in named)
    assert (ROOT / "Dockerfile").is_file() and (ROOT / ".dockerignore").is_file()


@pytest.mark.slow
def test_every_hub_command_is_one_with_those_options():
    lines = re.findall(r"^\.venv/bin/hf (.*)$", HOSTING, re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line, comments=True)
        command = list(takewhile(str.isalpha, words))
        asked = [Path(sys.executable).with_name("hf"), *command, "--help"]
        told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        assert f"hf {' '.join(command)} " in told, line
        assert {word for word in words if word.startswith("-")} <= set(re.findall(r"--?[a-z-]+", told)), line


def test_the_image_has_what_the_app_needs_and_nothing_that_is_private():
    files = {path.as_posix() for path in check_dockerfile.context()}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gcr_core").rglob("*.py")}
    assert modules <= files
    assert {
        "app.py",
        "requirements.txt",
        "assets/app.css",
        "assets/emoji.zip",
        "checkpoints/emoji/memory.json",
    } <= files
    assert not any(re.match(r"(\.|runs/|tests/|scripts/|docs/)|.*__pycache__", path) for path in files)


def test_the_image_installs_the_locked_torch_and_ends_as_the_user():
    steps = list(check_dockerfile.instructions())
    [torch] = [rest.split("=")[1] for name, rest in steps if name == "ARG" and rest.startswith("TORCH_VERSION=")]
    assert str(LOCK["torch"].specifier) == f"=={torch}"
    assert [rest for name, rest in steps if name == "USER"] == ["user"]
    names = [name for name, _ in steps]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert steps[0][1] in check_dockerfile.SUITES
