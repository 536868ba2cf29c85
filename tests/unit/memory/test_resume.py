"""What a command has made so far: gone on with by the same command, by no other, gone when it is done."""

import json
from pathlib import Path

import faiss
import pytest

from gcr_core.cli import main
from gcr_core.data.gallery import Gallery
from gcr_core.errors import GcrError
from gcr_core.memory import build
from gcr_core.memory.memory import Memory
from gcr_core.memory.resume import unfinished
from gcr_core.training.config import Recipe
from tests.unit.models.test_distributed import launch


def interrupted(out: Path, gallery: Gallery, recipe: Recipe) -> Path:
    with pytest.raises(KeyboardInterrupt), unfinished(out, gallery, recipe) as folder:
        (folder / "half").write_text("of it")
        (folder / "clip").mkdir()
        raise KeyboardInterrupt
    return folder


def test_the_same_gallery_and_recipe_go_on_and_leave_nothing_behind(tiny_gallery: Gallery, tmp_path: Path) -> None:
    interrupted(tmp_path / "memory", tiny_gallery, Recipe())
    with unfinished(tmp_path / "memory", tiny_gallery, Recipe()) as folder:
        assert (folder / "half").read_text() == "of it"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["recipe", "captions", "pictures"])
def test_another_gallery_or_recipe_begins_anew(other: str, tiny_gallery: Gallery, tmp_path: Path) -> None:
    interrupted(tmp_path / "memory", tiny_gallery, Recipe())
    gallery, recipe = tiny_gallery, Recipe(seed=1)
    if other == "captions":
        gallery, recipe = Gallery(gallery.root, gallery.file_names, [["other"]] * 12), Recipe()
    if other == "pictures":
        for name in gallery.file_names:
            gallery.open(gallery.index(name)).resize((9, 9)).save(tmp_path / name)
        gallery, recipe = Gallery(tmp_path, gallery.file_names, gallery.captions), Recipe()
    with unfinished(tmp_path / "memory", gallery, recipe) as folder:
        assert not (folder / "half").exists() and not (folder / "clip").exists()


def test_what_failed_before_anything_was_made_leaves_nothing(tiny_gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(GcrError), unfinished(tmp_path / "memory", tiny_gallery, Recipe()):
        raise GcrError("no CLIP")
    assert list(tmp_path.iterdir()) == []


def test_two_commands_cannot_make_one_memory(tiny_gallery: Gallery, tmp_path: Path) -> None:
    out = tmp_path / "memory"
    with (
        unfinished(out, tiny_gallery, Recipe()) as folder,
        pytest.raises(GcrError, match="another command is making a memory at"),
        unfinished(out, tiny_gallery, Recipe(seed=1)),
    ):
        pass
    assert not folder.exists()


@pytest.mark.slow
def test_a_command_that_was_interrupted_goes_on_in_several_processes(
    tiny_gallery: Gallery,
    llava_folder: Path,
    tiny_clip_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "memory"
    command = ["memorize", str(tiny_gallery.root), "--out", str(out), "--preset", "quick", "--json"]
    command += ["--backbone", str(llava_folder), "--clip", str(tiny_clip_dir)]

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build.Identifiers, "build", interrupt)
        with pytest.raises(KeyboardInterrupt):
            main(command)
    assert not out.exists()
    kept = tmp_path / ".memory.unfinished" / "dense" / "index.faiss"
    turned = faiss.IndexFlatIP(16)
    turned.add(-faiss.read_index(str(kept)).reconstruct_n(0, 12))
    faiss.write_index(turned, str(kept))

    done = launch("-m", "gcr_core", *command)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory"]
    assert answer["images"] == 12 and answer["memorized"] >= 0.5
    memory = Memory.from_pretrained(out, device="cpu")
    assert (memory.dense.vectors == turned.reconstruct_n(0, 12)).all()
    hits = memory.recall_images([memory.gallery.open(image) for image in range(12)], top=1)
    assert sum(hit[0].index == image for image, hit in enumerate(hits)) == pytest.approx(
        12 * answer["memorized"], abs=1
    )
