"""Pushing and pulling memories, against a hub on this machine."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from gcr_core.cli import main
from gcr_core.data.gallery import Gallery
from gcr_core.data.images import open_image
from gcr_core.errors import GcrError, HubError, MemoryFormatError
from gcr_core.memory.manifest import read_manifest
from gcr_core.memory.memory import Memory
from gcr_core.memory.publish import pull, push
from gcr_core.models.backbone import Backbone
from gcr_core.retrieval.dense import DenseIndex
from gcr_core.retrieval.identifiers import Identifiers
from gcr_core.serving.workspace import Workspace, new_id
from gcr_core.settings import Settings
from tests import uploads
from tests.hub_server import Hub, RefusedError, Repository

NAME = "alice/shapes"
QUERIES = ["a gold bar", "a red circle", "square in blue"]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with Hub() as hub:
        reach(monkeypatch, hub.address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_alice")
        yield hub


def reach(monkeypatch, address):
    """Lets huggingface_hub ask that address, as HF_ENDPOINT does when it is set before Python starts."""
    constants = huggingface_hub.constants
    for name, value in {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.fixture
def memory(tiny_memory_dir, tmp_path):
    """A memory's folder that a test may change."""
    return Path(shutil.copytree(tiny_memory_dir, tmp_path / "memory"))


@pytest.fixture
def adapter(hub, tiny_gallery, tiny_clip_dir, llava_folder, tmp_path):
    """The folder of a memory that is an adapter of a backbone of the hub's."""
    hub.repositories["alice/base"] = base = Repository(private=False)
    base.commit("base", contents(llava_folder))
    backbone = Backbone.from_pretrained("alice/base", device="cpu")
    backbone.adapt()
    identifiers = Identifiers.build("atomic", tiny_gallery, backbone.tokenizer)
    dense = DenseIndex.build(tiny_gallery, tiny_clip_dir, device="cpu")
    Memory(backbone, identifiers, tiny_gallery, dense).save(tmp_path / "adapter")
    return tmp_path / "adapter"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def answers(folder):
    memory = Memory.from_pretrained(folder, device="cpu")
    found = [memory.search(query) for query in QUERIES]
    return [[(hit["file_name"], round(hit["score"], 4)) for hit in answer[side]] for answer in found for side in answer
            if side in ("generative", "dense")]  # fmt: skip


@pytest.mark.slow
def test_what_is_pushed_with_pictures_is_pulled_whole_and_answers_alike(hub, memory, tmp_path):
    by_a_camera = memory / "gallery" / "IMG_0001.PNG"
    (memory / "gallery" / "red-circle.png").rename(by_a_camera)
    metadata = memory / "gallery" / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace("red-circle.png", by_a_camera.name))
    (memory / "originals").mkdir()
    (memory / "originals" / by_a_camera.name).write_bytes(uploads.picture((300, 200)))
    pushed = push(memory, NAME, pictures=True)
    assert pushed == {
        "repository": NAME,
        "revision": hub.repositories[NAME].head,
        "url": f"{hub.address}/{NAME}",
        "private": True,
        "pictures": True,
        "images": 12,
    }
    pulled = pull(NAME, tmp_path / "pulled")
    assert pulled == {
        "repository": NAME, "revision": pushed["revision"], "memory": str(tmp_path / "pulled"), "images": 12
    }  # fmt: skip
    before, after = contents(memory), contents(tmp_path / "pulled")
    told = ("memory.json", "README.md")
    assert {name: data for name, data in before.items() if name not in told} == {
        name: data for name, data in after.items() if name not in told
    }
    assert answers(memory) == answers(tmp_path / "pulled")


def test_a_push_is_private_one_commit_and_without_pictures_unless_said_otherwise(hub, memory):
    (memory / "originals").mkdir()
    (memory / "originals" / "red-bar.png").write_bytes(uploads.picture((300, 200)))
    push(memory, NAME)
    repository = hub.repositories[NAME]
    assert repository.private
    assert len(repository.commits) == 2  # the hub's own, when it was made
    assert [path for path in repository.files if path.startswith("gallery/")] == ["gallery/metadata.jsonl"]
    assert not any(path.endswith(".png") for path in repository.files)


@pytest.mark.slow
def test_a_memory_without_pictures_is_asked_grows_and_forgets_as_any_other(hub, memory, tmp_path):
    own = Memory.from_pretrained(memory, device="cpu")
    own.rehearse()
    own.save(memory)
    push(memory, NAME)
    pull(NAME, tmp_path / "pulled")
    assert answers(memory) == answers(tmp_path / "pulled")
    pulled = Memory.from_pretrained(tmp_path / "pulled", device="cpu")
    assert not any(pulled.gallery.has_picture(image) for image in range(12))
    picture = open_image(memory / "gallery" / "red-bar.png").rotate(45)
    assert pulled.add([("tilted.png", picture)], [["a tilted bar"]]) == ["tilted.png"]
    pulled.forget(["gold-bar.png"])
    with pytest.raises(GcrError, match=r"11 of its 12 pictures.*pull or open it with its pictures"):
        pulled.consolidate()
    pulled.save(tmp_path / "pulled")
    again = Memory.from_pretrained(tmp_path / "pulled", device="cpu")
    assert len(again.gallery) == 12
    assert [again.gallery.has_picture(image) for image in (0, 11)] == [False, True]
    recalled = {hit.file_name for hit in again.recall(["a tilted bar"], top=12, beams=12)[0]}
    assert "tilted.png" in recalled
    assert "gold-bar.png" not in recalled


def test_the_card_is_valid_for_the_hub_and_says_what_was_measured_and_who_wrote_the_captions(hub, memory):
    facts = read_manifest(memory) | {
        "name": "Shapes [of] *mine*",
        "backbone": {"name": "/home/somebody/models/tiny-llava", "revision": None},
        "pseudo_queries": 5,
        "training": {"memorized": 1.0, "retrieved": 0.25, "held_out": 8, "dense": {"memorized": 0.5, "retrieved": 0.1}},
    }
    (memory / "memory.json").write_text(json.dumps(facts))
    push(memory, NAME)
    files = hub.repositories[NAME].files
    card = files["README.md"].decode()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "unknown"
    assert front["library_name"] == "gcr-core"
    assert "base_model" not in front
    assert f'from_pretrained("{NAME}")' in card
    assert "24, of which the backbone wrote 5 itself" in card
    assert "of 8 that were kept out of training until then | 25.0% | 10.0% |" in card
    assert "without its pictures" in card
    assert r"\[of\] \*mine\*" in card
    assert "somebody" not in card + files["memory.json"].decode()


def test_the_card_names_a_backbone_of_the_hub(hub, memory):
    base = {"name": "HuggingFaceTB/SmolVLM-256M-Instruct", "revision": "7e3e67edbbed1bf9888184d9df282b700a323964"}
    (memory / "memory.json").write_text(json.dumps(read_manifest(memory) | {"backbone": base}))
    push(memory, NAME, pictures=True)
    front = yaml.safe_load(hub.repositories[NAME].files["README.md"].decode().split("---\n")[1])
    assert (front["base_model"], front["base_model_relation"]) == (base["name"], "finetune")


@pytest.mark.slow
def test_an_adapter_is_pushed_alone_and_finds_its_backbone_on_the_hub(hub, adapter, tmp_path):
    base, revision = hub.repositories["alice/base"], read_manifest(adapter)["backbone"]["revision"]
    base.commit("another base", {})
    push(adapter, NAME)
    pull(NAME, tmp_path / "pulled")
    files = hub.repositories[NAME].files
    assert len(files["model/adapter_model.safetensors"]) < len(base.at(revision)["model.safetensors"])
    assert "model/model.safetensors" not in files
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert (front["base_model"], front["base_model_relation"]) == ("alice/base", "adapter")
    assert read_manifest(tmp_path / "pulled")["backbone"] == {"name": "alice/base", "revision": revision}
    assert answers(adapter) == answers(tmp_path / "pulled")


@pytest.mark.slow
def test_a_downloaded_memory_opens_where_its_clip_was_never_fetched(
    hub, memory, tiny_gallery, tiny_clip_dir, tmp_path, monkeypatch
):
    hub.repositories["alice/clip"] = clip = Repository(private=False)
    clip.commit("clip", contents(tiny_clip_dir))
    shutil.rmtree(memory / "dense")
    DenseIndex.build(tiny_gallery, "alice/clip", device="cpu").save(memory / "dense")
    here = Workspace(tmp_path / "here")
    there = Workspace(tmp_path / "there", Settings(clip="alice/clip", visitors=True))
    here.keep(memory, id := new_id(), "boats")
    empty = str(tmp_path / "empty")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", empty)
    monkeypatch.setenv("HF_HUB_CACHE", empty)
    there.open_memory(here.export(id))
    assert [row["name"] for row in there.memories()] == ["boats"]


@pytest.mark.slow
def test_a_downloaded_adapter_opens_where_its_backbone_was_never_fetched(hub, adapter, tmp_path, monkeypatch):
    here, there = (
        Workspace(tmp_path / "here"),
        Workspace(tmp_path / "there", Settings(backbone="alice/base", visitors=True)),
    )
    here.keep(adapter, id := new_id(), "boats")
    empty = str(tmp_path / "empty")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", empty)
    monkeypatch.setenv("HF_HUB_CACHE", empty)
    there.open_memory(here.export(id))
    assert [row["name"] for row in there.memories()] == ["boats"]
    facts = read_manifest(here.memory(id))
    facts["backbone"]["revision"] = offered = "0" * 40
    (here.memory(id) / "memory.json").write_text(json.dumps(facts))
    with pytest.raises(MemoryFormatError, match=f"of the backbone 'alice/base' at revision {offered}"):
        there.open_memory(here.export(id))
    assert not hub.sent(f"/revision/{offered}"), "strangers have nothing fetched that anybody could offer there"


def test_an_adapter_of_a_backbone_that_nobody_else_has_is_not_pushed(hub, memory):
    base = {"name": "/models/mine", "revision": None}
    (memory / "memory.json").write_text(json.dumps(read_manifest(memory) | {"backbone": base}))
    (memory / "model" / "adapter_config.json").write_text("{}")
    with pytest.raises(HubError, match=r"'/models/mine'.*hub id"):
        push(memory, NAME)
    assert hub.asked == []


@pytest.mark.slow
def test_the_same_repository_is_pushed_to_again_and_keeps_its_history(hub, memory):
    push(memory, NAME, pictures=True)
    own = Memory.from_pretrained(memory, device="cpu")
    own.forget(["gold-bar.png"])
    own.save(memory)
    uploads = len(hub.sent("PUT /large"))
    push(memory, NAME, pictures=True)
    now, before = hub.repositories[NAME].commits[-1][2], hub.repositories[NAME].commits[-2][2]
    assert set(before) - set(now) == {"gallery/gold-bar.png"}
    assert len(hub.sent("PUT /large")) - uploads < 4, "what the hub has is not sent again"
    push(memory, NAME)
    assert not any(path.endswith(".png") for path in hub.repositories[NAME].files)


@pytest.mark.slow
def test_a_pulled_memory_is_pushed_back_to_where_it_came_from(hub, memory, tmp_path):
    push(memory, NAME)
    pull(NAME, tmp_path / "pulled")
    assert push(tmp_path / "pulled", NAME)["repository"] == NAME


def test_a_name_without_owner_is_the_tokens_owners(hub, memory):
    assert push(memory, "shapes", token="hf_bob")["repository"] == "bob/shapes"


def test_a_memory_that_did_not_change_makes_no_commit(hub, memory):
    first, second = push(memory, NAME, pictures=True), push(memory, NAME, pictures=True)
    assert first == second
    assert len(hub.repositories[NAME].commits) == 2


def test_a_memory_that_is_rewritten_meanwhile_is_to_be_pushed_again(hub, memory):
    def rewrite(done, total):
        if done == total:
            Memory.from_pretrained(memory, device="cpu").save(memory)

    with pytest.raises(HubError, match="rewritten while it was pushed: push it again"):
        push(memory, NAME, on_progress=rewrite)
    assert push(memory, NAME)["repository"] == NAME


def test_more_files_than_the_hub_takes_at_once_are_named_with_the_remedy(hub, memory, monkeypatch):
    monkeypatch.setattr("gcr_core.memory.publish.MAX_COMMIT_FILES", 20)
    with pytest.raises(HubError, match=r"has 29 files, a push takes 20: leave the pictures out"):
        push(memory, NAME, pictures=True)
    assert hub.repositories == {}
    assert push(memory, NAME)["images"] == 12


def test_progress_counts_all_bytes(hub, memory):
    told = []
    push(memory, NAME, pictures=True, on_progress=lambda done, total: told.append((done, total)))
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] > 100_000
    assert told == sorted(told)


def test_public_is_public_and_a_public_repository_gets_nothing_unasked(hub, memory):
    push(memory, NAME)
    assert push(memory, NAME, public=True)["private"] is False
    assert not hub.repositories[NAME].private
    commits = len(hub.repositories[NAME].commits)
    with pytest.raises(HubError, match=f"everybody can read {NAME}"):
        push(memory, NAME)
    assert len(hub.repositories[NAME].commits) == commits


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        ("hf_wrong", NAME, r"knows no such token.*settings/tokens"),
        ("hf_reader", NAME, r"may not push alice/shapes.*token that may write"),
        ("hf_bob", NAME, r"may not push alice/shapes.*name of your own"),
        ("hf_alice", "no name/../x", r"'no name/../x' is no name on the hub.*owner/name"),
        ("hf_alice", f"alice/{'x' * 120}", r"no hub id"),
    ],
)
def test_a_wrong_token_or_name_is_refused_in_one_line_and_leaves_nothing(hub, memory, token, name, message):
    before = contents(memory)
    with pytest.raises(HubError, match=message) as refused:
        push(memory, name, token=token)
    assert "\n" not in str(refused.value)
    assert hub.repositories == {}
    assert contents(memory) == before


def test_without_any_token_the_message_says_where_to_get_one(hub, memory, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(HubError, match=r"no token.*settings/tokens.*HF_TOKEN"):
        push(memory, NAME)


def test_a_name_that_is_taken_is_left_alone(hub, memory, tmp_path):
    push(memory, NAME)
    other = Path(shutil.copytree(memory, tmp_path / "other"))
    facts = {name: value for name, value in read_manifest(other).items() if name != "hub"}
    (other / "memory.json").write_text(json.dumps(facts))
    taken = hub.repositories[NAME].head
    with pytest.raises(HubError, match=f"{NAME} is taken.*choose another name"):
        push(other, NAME)
    assert hub.repositories[NAME].head == taken


def test_a_push_over_a_change_of_another_is_refused(hub, memory):
    push(memory, NAME)

    def meanwhile(method, path):
        if "/commit/" in path:
            hub.fails = lambda method, path: None
            hub.repositories[NAME].commit("by another", hub.repositories[NAME].files | {"note.txt": b"mine"})

    hub.fails = meanwhile
    with pytest.raises(HubError, match=f"{NAME} was changed by another.*push again"):
        push(memory, NAME, pictures=True)
    assert hub.repositories[NAME].files["note.txt"] == b"mine"


@pytest.mark.slow
def test_a_push_would_undo_one_from_elsewhere_and_is_refused(hub, memory, tmp_path):
    push(memory, NAME)
    pull(NAME, tmp_path / "elsewhere")
    there = Memory.from_pretrained(tmp_path / "elsewhere", device="cpu")
    there.forget(["gold-bar.png"])
    there.save(tmp_path / "elsewhere")
    push(tmp_path / "elsewhere", NAME)
    theirs = hub.repositories[NAME].head
    with pytest.raises(HubError, match=f"{NAME} was changed since.*would undo that: choose another name"):
        push(memory, NAME)
    assert hub.repositories[NAME].head == theirs
    pull(NAME, memory)
    push(memory, NAME, pictures=False)


@pytest.mark.slow
def test_a_memory_that_was_loaded_before_a_push_is_saved_and_pushed_again(hub, memory):
    own = Memory.from_pretrained(memory, device="cpu")
    push(memory, NAME)
    for name in ("gold-bar.png", "red-bar.png"):
        own.forget([name])
        own.save(memory)
        push(memory, NAME)
    assert json.loads(hub.repositories[NAME].files["memory.json"])["images"] == 10


def test_a_card_that_was_edited_on_the_hub_keeps_no_push_back(hub, memory):
    push(memory, NAME)
    hub.repositories[NAME].commit("edited", hub.repositories[NAME].files | {"README.md": b"mine"})
    push(memory, NAME)
    assert hub.repositories[NAME].files["README.md"] != b"mine"


def hang_up(hub, at, after=0):
    """Lets the hub hang up on every request of a kind, once it has answered `after` of them."""
    start = len(hub.sent(at)) + after

    def fails(method, path):
        if len(hub.sent(at)) > start and at in f"{method} {path}":
            raise ConnectionError

    hub.fails = fails


@pytest.mark.slow
@pytest.mark.parametrize(("at", "after"), [("PUT /large", 2), ("/preupload/", 0), ("/commit/", 0)])
def test_an_upload_that_breaks_off_changes_nothing_there_or_here_and_goes_on_from_where_it_was(
    hub, memory, tmp_path, at, after
):
    push(memory, NAME)
    own = Memory.from_pretrained(memory, device="cpu")
    own.forget(["gold-bar.png"])
    own.save(memory)
    before, files = contents(memory), dict(hub.repositories[NAME].files)
    hang_up(hub, at, after)
    with pytest.raises(HubError, match=f"the push of {NAME} broke off.*push again; nothing is lost"):
        push(memory, NAME, pictures=True)
    assert hub.repositories[NAME].files == files
    after_it = contents(memory)
    assert {name: before[name] for name in before if name not in ("memory.json", "README.md")} == {
        name: after_it[name] for name in after_it if name not in ("memory.json", "README.md")
    }
    hub.fails = lambda method, path: None
    stored, uploads = len(hub.large), len(hub.sent("PUT /large"))
    push(memory, NAME, pictures=True)
    assert len(hub.sent("PUT /large")) - uploads == len(hub.large) - stored, "nothing is sent twice"
    assert at != "/commit/" or len(hub.large) == stored
    pull(NAME, tmp_path / "pulled")
    assert answers(memory) == answers(tmp_path / "pulled")


def test_a_first_push_that_broke_off_is_simply_pushed_again(hub, memory):
    hang_up(hub, "/commit/")
    with pytest.raises(HubError, match="broke off"):
        push(memory, NAME)
    assert hub.repositories[NAME].private
    hub.fails = lambda method, path: None
    assert push(memory, NAME)["images"] == 12


def test_an_answer_that_was_lost_after_the_commit_does_not_make_the_name_taken(hub, memory, monkeypatch):
    from huggingface_hub import HfApi

    create = HfApi.create_commit

    def lost(*arguments, **options):
        create(*arguments, **options)
        raise OSError("connection reset")

    monkeypatch.setattr(HfApi, "create_commit", lost)
    with pytest.raises(HubError, match="broke off"):
        push(memory, NAME)
    monkeypatch.setattr(HfApi, "create_commit", create)
    assert push(memory, NAME)["repository"] == NAME


def test_without_a_network_both_ways_say_so(memory, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    reach(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"the push of .* broke off .*connection"):
        push(memory, NAME)
    with pytest.raises(HubError, match=r"the pull of .* broke off .*connection"):
        pull(NAME, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_a_hub_that_was_switched_off_is_named(memory, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        push(memory, NAME)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        pull(NAME, tmp_path / "pulled")


def test_a_hub_that_is_ill_is_quoted(hub, memory):
    def fails(method, path):
        if "/create" in path:
            raise RefusedError(507, "storage quota exceeded")

    hub.fails = fails
    with pytest.raises(HubError, match=r"answered 507 to the push of alice/shapes \(.*storage quota exceeded"):
        push(memory, NAME)


def test_pull_refuses_what_is_private_missing_or_no_memory(hub, memory, tmp_path, monkeypatch):
    out = tmp_path / "pulled"
    push(memory, NAME)
    hub.repositories["alice/other"] = Repository(private=False)
    hub.repositories["alice/other"].commit("x", {"config.json": b"{}", "model.safetensors": b"0" * 100})
    with pytest.raises(MemoryFormatError, match="alice/other on the hub holds no memory"):
        pull("alice/other", out)
    assert not hub.sent("GET /alice/other/resolve")
    for token in ("hf_bob", "hf_wrong"):
        with pytest.raises(HubError, match=f"{NAME} is not on the hub, or private"):
            pull(NAME, out, token=token)
    with pytest.raises(HubError, match="'shapes' is no hub id: write owner/name"):
        pull("shapes", out)
    with pytest.raises(MemoryFormatError, match="holds something other than a memory"):
        pull(NAME, tmp_path)
    assert not out.exists()


@pytest.mark.slow
def test_a_pull_that_breaks_off_leaves_the_old_memory_and_goes_on_from_where_it_was(hub, memory, tmp_path):
    push(memory, NAME, pictures=True)
    out = Path(shutil.copytree(memory, tmp_path / "pulled"))
    before = contents(out)
    hang_up(hub, f"GET /{NAME}/resolve", after=5)
    with pytest.raises(HubError, match=f"the pull of {NAME} broke off"):
        pull(NAME, out)
    assert contents(out) == before
    hub.fails = lambda method, path: None
    fetched = len(hub.sent(f"GET /{NAME}/resolve"))
    pull(NAME, out)
    assert 0 < len(hub.sent(f"GET /{NAME}/resolve")) - fetched < len(hub.repositories[NAME].files) - 4
    assert len(Gallery.load(out / "gallery")) == 12


def test_a_memory_of_another_format_is_refused_before_it_is_fetched(hub, memory, tmp_path):
    push(memory, NAME)
    files = hub.repositories[NAME].files
    files["memory.json"] = files["memory.json"].replace(b'"format_version": 1', b'"format_version": 99')
    with pytest.raises(MemoryFormatError, match="format 99"):
        pull(NAME, tmp_path / "pulled")
    assert not hub.sent("model.safetensors")


@pytest.mark.slow
def test_push_and_pull_as_commands(hub, memory, tmp_path, capsys):
    out = str(tmp_path / "pulled")
    assert main(["push", str(memory), NAME, "--with-pictures", "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    assert (pushed["repository"], pushed["private"], pushed["pictures"]) == (NAME, True, True)
    assert main(["push", str(memory), NAME]) == 0
    assert f"{hub.address}/{NAME}: 12 images, private, without their pictures" in capsys.readouterr().out
    assert main(["pull", NAME, "--out", out]) == 0
    assert f"{out}: 12 images from {NAME}" in capsys.readouterr().out
    for memory_or_id in (out, NAME):
        assert main(["recall", "a gold bar", "--memory", memory_or_id, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["generative"]) == 10
    assert main(["push", str(tmp_path), NAME]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["pull", "alice/nothing", "--out", str(tmp_path / "other"), "--json"]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
