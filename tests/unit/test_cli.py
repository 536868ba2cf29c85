"""The commands, in this process and as `python -m gcr_core`."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gcr_core.cli import main
from gcr_core.data.gallery import Gallery
from gcr_core.data.images import open_image
from gcr_core.memory.manifest import read_manifest
from gcr_core.memory.memory import Memory
from gcr_core.training.config import Recipe

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gcr_core", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that must fail with status 2 and print nothing else."""
    status: object
    try:
        status = main(list(arguments))
    except SystemExit as left:
        status = left.code
    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert output.err.endswith("\n")
    assert output.err.count("\n") == 1
    return output.err


def test_recall_prints_one_json_object(tiny_memory_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recall", "a happy dog", "--memory", str(tiny_memory_dir), "--top", "3", "--json"]) == 0
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert list(answer) == ["query", "generative", "dense", "latency_ms"]
    assert len(answer["generative"]) == len(answer["dense"]) == 3
    assert output.err == ""


def test_recall_prints_a_table_for_people(tiny_memory_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recall", "gold", "--memory", str(tiny_memory_dir), "--beams", "2", "--top", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "recalled from memory (log p)" in lines[0]
    assert "CLIP + FAISS (cosine)" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4"]
    assert all(".png  a " in line for line in lines[1:])


def test_recall_takes_a_picture(tiny_memory: Memory, tiny_memory_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tiny_memory_dir / "gallery" / "red-bar.png"
    assert main(["recall", "--image", str(picture), "--memory", str(tiny_memory_dir), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["query"] is None
    expected = tiny_memory.search_image(open_image(picture))
    for engine in ("generative", "dense"):
        assert [hit["file_name"] for hit in answer[engine]] == [hit["file_name"] for hit in expected[engine]]


def test_recall_searches_in_an_album(tiny_memory_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(shutil.copytree(tiny_memory_dir, tmp_path / "memory"))
    gallery = Gallery.load(tmp_path / "memory" / "gallery")
    gallery.with_albums(["bars" if "bar" in name else "" for name in gallery.file_names])
    assert main(["recall", "gold", "--memory", folder, "--album", "bars", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    for engine in ("generative", "dense"):
        assert sorted(hit["file_name"] for hit in answer[engine]) == sorted(
            name for name in gallery.file_names if "bar" in name
        )
    assert main(["recall", "gold", "--memory", folder, "--album", "circles"]) == 2
    assert capsys.readouterr().err == ("gcr_core: there is no album 'circles': name one of 1, such as 'bars'\n")


def test_the_default_memory_is_the_one_in_the_environment(
    tiny_memory_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCR_MEMORY", str(tiny_memory_dir))
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 12


def test_info_prints_the_facts(tiny_memory_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tiny_memory_dir)]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["identifiers.type"] == "atomic"
    assert facts["images"] == "12"


@pytest.mark.parametrize("length", [1, 12, 25, 26, 27, 28, 29, 30, 31, 60, 300])
def test_info_leaves_a_space_between_a_name_and_its_value(
    length: int, tiny_memory_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((tiny_memory_dir / "memory.json").read_text(encoding="utf-8"))
    (tmp_path / "memory.json").write_text(json.dumps(manifest | {"x" * length: "value"}), encoding="utf-8")
    assert main(["info", str(tmp_path)]) == 0
    assert ["x" * length, "value"] in [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.slow
def test_memorize_trains_a_memory_that_recall_opens(
    tiny_gallery: Gallery, llava_folder: Path, tiny_clip_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "shapes.zip", "w") as archive:
        for path in tiny_gallery.root.iterdir():
            archive.write(path, path.name)
        archive.writestr("broken.png", b"no picture")
    out = str(tmp_path / "memory")
    models = ["--backbone", str(llava_folder), "--clip", str(tiny_clip_dir)]
    command = ["memorize", str(tmp_path / "shapes.zip"), "--out", out, *models, "--preset", "balanced", "--seed", "1"]
    assert main([*command, "--json"]) == 0
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert list(answer) == ["memory", "images", "seconds", "memorized", "retrieved"]
    assert (answer["memory"], answer["images"], answer["retrieved"]) == (out, 12, None)
    assert 0.9 <= answer["memorized"] <= 1
    assert output.err == ""
    assert main(["recall", "a gold bar", "--memory", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["generative"][0]["file_name"] == "gold-bar.png"


@pytest.mark.slow
def test_memorize_lets_the_backbone_write_captions_and_says_how_many(
    tmp_path: Path, idefics3_folder: Path, tiny_clip_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, out = tmp_path / "gallery", tmp_path / "memory"
    gallery.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (40, 40), colour).save(gallery / f"IMG_{number}.png")
    (gallery / "metadata.jsonl").write_text('{"file_name": "IMG_0.png", "text": "a red square"}')
    models = ["--backbone", str(idefics3_folder), "--clip", str(tiny_clip_dir)]
    command = ["memorize", str(gallery), "--out", str(out), *models, "--preset", "quick", "--write-captions", "2"]
    assert main(command) == 0
    told = capsys.readouterr().out
    written = Gallery.load(out / "gallery").pseudo_queries
    assert written[0] == []
    assert all(1 <= len(texts) <= 2 for texts in written[1:])
    count = sum(map(len, written))
    assert f"captions: {count + 1}, {count} of them written by the model" in told
    assert "2 of 3 images have only the model’s own words" in told
    facts = read_manifest(out)
    assert facts["pseudo_queries"] == facts["training"]["pseudo_queries"] == count
    assert [path.name for path in gallery.iterdir() if path.suffix != ".png"] == ["metadata.jsonl"]
    assert "IMG_1" not in (gallery / "metadata.jsonl").read_text()


def test_memorize_tells_people_what_came_of_it(
    tiny_gallery: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = {"images": 12, "seconds": 61.2, "memorized": 1.0, "retrieved": 0.25, "remarks": ["Type captions in."]}
    report |= {"captions": 24, "pseudo_queries": 0}

    def make_memory(gallery: Gallery, recipe: Recipe, out: Path, *_: object) -> dict[str, object]:
        assert (len(gallery), recipe.preset, recipe.identifiers, recipe.seed) == (12, "thorough", "numeric", 7)
        return report

    monkeypatch.setattr("gcr_core.memory.build.make_memory", make_memory)
    choices = ["--preset", "thorough", "--identifiers", "numeric", "--seed", "7"]
    assert main(["memorize", str(tiny_gallery.root), "--out", "m", *choices]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "m: 12 images memorised in 61 s",
        "recalled at rank 1 from their own picture: 100.0%",
        "recalled at rank 1 from a caption kept out of training: 25.0%",
        "Type captions in.",
    ]


def test_memorize_refuses_mistakes_before_it_trains(
    tiny_gallery: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, out = str(tiny_gallery.root), str(tmp_path / "memory")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").touch()
    assert "--out" in complaint(capsys, "memorize", gallery)
    assert "unknown preset 'slow'; choose one of quick, balanced, thorough" in complaint(
        capsys, "memorize", gallery, "--out", out, "--preset", "slow"
    )
    assert "unknown identifier type" in complaint(capsys, "memorize", gallery, "--out", out, "--identifiers", "x")
    assert "other than a memory" in complaint(capsys, "memorize", gallery, "--out", str(tmp_path / "letters"))
    assert "is no folder" in complaint(capsys, "memorize", str(tmp_path / "nowhere"), "--out", out)
    assert "no image" in complaint(capsys, "memorize", str(tmp_path / "letters"), "--out", out)
    assert "no folder here" in complaint(capsys, "memorize", gallery, "--out", out, "--backbone", "nowhere")
    assert "seed is -1: choose one from 0" in complaint(capsys, "memorize", gallery, "--out", out, "--seed", "-1")
    assert "holds no CLIP but a MiniModel" in complaint(
        capsys, "memorize", gallery, "--out", out, "--clip", str(ROOT / "checkpoints" / "gcr-mini")
    )
    below = str(tmp_path / "letters" / "letter.txt" / "memory")
    assert "where you may write" in complaint(capsys, "memorize", gallery, "--out", below)
    assert "model cannot describe pictures" in complaint(
        capsys,
        "memorize",
        gallery,
        "--out",
        out,
        "--backbone",
        str(ROOT / "checkpoints" / "emoji" / "model"),
        "--write-captions",
        "3",
    )
    assert not Path(out).exists()


def test_evaluate_prints_json_or_a_table(
    tiny_memory_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"query": "a gold bar", "relevant": ["gold-bar.png"]}')
    command = ["evaluate", "--memory", str(tiny_memory_dir), "--queries", str(queries)]
    assert main([*command, "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["queries"] == 1
    assert output.err == ""
    assert main(command) == 0
    assert "recall@10" in capsys.readouterr().out


def test_mistakes_are_one_line_and_status_2(
    tiny_memory_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = ["--memory", str(tiny_memory_dir)]
    assert "blank" in complaint(capsys, "recall", " ", *memory)
    assert "limit is 1,000" in complaint(capsys, "recall", "x" * 100_000, "--memory", "nowhere")
    assert "cannot read" in complaint(capsys, "recall", "ბედნიერი ძაღლი", *memory)
    assert "top is 0" in complaint(capsys, "recall", "dog", "--top", "0", *memory)
    assert "beams is -1" in complaint(capsys, "recall", "dog", "--beams", "-1", *memory)
    assert "one of the two" in complaint(capsys, "recall", *memory)
    assert "one of the two" in complaint(capsys, "recall", "dog", "--image", "x.png", *memory)
    assert "cannot be read" in complaint(capsys, "recall", "--image", str(tmp_path / "x.png"), *memory)
    assert "no folder here" in complaint(capsys, "recall", "dog", "--memory", str(tmp_path / "nowhere"))
    assert "is no memory" in complaint(capsys, "info", str(tmp_path))
    assert "cannot be read" in complaint(capsys, "evaluate", "--queries", str(tmp_path / "q.jsonl"), *memory)


def test_wrong_usage_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert "invalid choice" in complaint(capsys, "forgive")
    assert "invalid int value" in complaint(capsys, "recall", "dog", "--top", "ten")
    assert "--queries" in complaint(capsys, "evaluate")
    assert "COMMAND" in complaint(capsys)


def test_help_and_info_import_no_model_library(tiny_memory_dir: Path) -> None:
    program = (
        "import sys, contextlib, gcr_core.cli as cli\n"
        "with contextlib.suppress(SystemExit): cli.main(['--help'])\n"
        f"cli.main(['info', {str(tiny_memory_dir)!r}])\n"
        "heavy = {'torch', 'transformers', 'faiss', 'gradio', 'huggingface_hub'} & set(sys.modules)\n"
        "print('imported:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.slow
def test_the_module_runs_as_a_program(tiny_memory_dir: Path) -> None:
    done = run("recall", "a happy dog", "--memory", str(tiny_memory_dir), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["query"] == "a happy dog"
    done = run("recall", "dog", "--memory", "nowhere")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.slow
def test_commands_that_end_well_leave_nothing_on_stderr(
    tiny_memory_dir: Path, tiny_gallery: Gallery, llava_folder: Path, tiny_clip_dir: Path, tmp_path: Path
) -> None:
    memory, made = shutil.copytree(tiny_memory_dir, tmp_path / "memory"), tmp_path / "made"
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"query": "a gold bar", "relevant": ["gold-bar.png"]}')
    picture = tmp_path / "a grey dot.png"
    Image.new("RGB", (40, 40), "grey").save(picture)
    models = ["--backbone", str(llava_folder), "--clip", str(tiny_clip_dir)]
    commands = [
        ["recall", "a happy dog", "--memory", str(memory)],
        ["recall", "--image", str(picture), "--memory", str(memory), "--json"],
        ["evaluate", "--memory", str(memory), "--queries", str(queries)],
        ["add", str(memory), str(picture)],
        ["describe", str(memory), picture.name],
        ["consolidate", str(memory)],
        ["forget", str(memory), "gold-bar.png"],
        ["info", str(memory)],
        ["memorize", str(tiny_gallery.root), "--out", str(made), "--preset", "quick", *models],
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    program = [sys.executable, "-m", "tests.every_command", json.dumps(commands)]
    done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.count(f"{made}: 12 images memorised") == 2


def test_a_reader_that_leaves_ends_the_command_quietly(tiny_memory_dir: Path) -> None:
    command = f"{sys.executable} -m gcr_core info {tiny_memory_dir} | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
