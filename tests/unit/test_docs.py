"""The documents: links that lead somewhere, programs that exist, commands that parse, Python that runs."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

import gcr_core
from gcr_core import cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
}
API = DOCUMENTS["docs/api.md"]
PROGRAM = re.compile(r"\b(?:benchmarks|scripts)/\w+\.py\b")
COMMAND = re.compile(r"^\.venv/bin/(?:gcr|accelerate launch .*?-m gcr_core) ((?:.*\\\n)*.*)$", re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What the headings are called in addresses, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_relative_link_leads_to_a_file_and_a_heading(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[name]):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


def test_the_readme_leads_to_every_page():
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", DOCUMENTS["README.md"]))
    assert linked == {name for name in DOCUMENTS if name.startswith("docs/")}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_program_that_is_named_is_there(name):
    assert not [path for path in PROGRAM.findall(DOCUMENTS[name]) if not (ROOT / path).is_file()]


def test_every_benchmark_has_its_command_in_the_figures():
    commands = {path for block in blocks(DOCUMENTS["docs/figures.md"], "bash") for path in PROGRAM.findall(block)}
    assert commands == {path.relative_to(ROOT).as_posix() for path in ROOT.glob("benchmarks/*.py")}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_of_gcr_is_one_with_those_options(name):
    for line in COMMAND.findall(DOCUMENTS[name]):
        words = shlex.split(line.replace("\\\n", ""), comments=True)
        assert callable(cli._parser().parse_args(words).command)


def test_every_command_of_gcr_is_in_a_document():
    [choices] = [dict(action.choices) for action in cli._parser()._actions if action.choices]
    assert {line.split()[0] for text in DOCUMENTS.values() for line in COMMAND.findall(text)} == choices.keys()


def test_the_python_of_the_library_runs(tiny_memory_dir, tmp_path, monkeypatch, capsys):
    [program] = [code for code in blocks(API, "python") if "gcr_core" in code]
    shutil.copytree(tiny_memory_dir, tmp_path / "checkpoints" / "emoji")
    Image.effect_mandelbrot((48, 48), (-2, -1, 1, 1), 20).convert("RGB").save(tmp_path / "boat.jpg")
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert len(gcr_core.Memory.from_pretrained(tmp_path / "my-memory").gallery) == 12


def test_every_public_name_is_in_the_page_on_the_api():
    rows = re.findall(r"^\| (`.*?) \|", API.split("\n## Python\n")[1].split("\n## ")[0], re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(gcr_core.__all__)


def test_the_tree_in_the_readme_has_every_module_and_no_other():
    tree, folders, named = DOCUMENTS["README.md"].split("\n## Files\n")[1].split("```")[1], [], set()
    for line in tree.strip().splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        if name.endswith(".py"):
            named.add("".join(folders))
    files = (path.relative_to(ROOT).as_posix() for path in (ROOT / "gcr_core").rglob("*.py"))
    empty = {f"gcr_core/{path.parent.name}/__init__.py" for path in (ROOT / "gcr_core").glob("*/__init__.py")}
    assert named == {"app.py", *files} - empty


def test_every_file_that_contributors_are_sent_to_is_there():
    named = re.findall(r"`((?:gcr_core|tests|assets|benchmarks)/[\w./]+)`", DOCUMENTS["CONTRIBUTING.md"])
    assert named
    assert not [path for path in named if "NAME" not in path and not (ROOT / path).exists()]
