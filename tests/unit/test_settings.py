"""Settings from the environment."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from platformdirs import user_data_path

import gcr_core.settings as settings_module
from gcr_core.errors import InputError
from gcr_core.settings import ROOT, Settings


def test_defaults_name_the_checkpoints_beside_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GCR_HOME")
    monkeypatch.setattr(settings_module, "FORMER_HOME", tmp_path / "none")
    settings = Settings.from_env()
    assert settings.memory == str(ROOT / "checkpoints" / "emoji")
    assert settings.backbone == str(ROOT / "checkpoints" / "gcr-mini")
    assert settings.clip == str(ROOT / "checkpoints" / "gcr-mini-clip")
    assert settings.home == user_data_path("gcr", appauthor=False)


def test_the_home_of_earlier_versions_is_used_until_there_is_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GCR_HOME")
    monkeypatch.setattr(settings_module, "FORMER_HOME", tmp_path / "former")
    monkeypatch.setattr(settings_module, "HOME", tmp_path / "home")
    assert Settings.from_env().home == tmp_path / "home"
    (tmp_path / "former").mkdir()
    assert Settings.from_env().home == tmp_path / "former"
    (tmp_path / "home").mkdir()
    assert Settings.from_env().home == tmp_path / "home"


def test_variables_replace_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GCR_HOME", str(tmp_path))
    monkeypatch.setenv("GCR_MEMORY", "someone/memory")
    settings = Settings.from_env()
    assert settings.home == tmp_path
    assert settings.memory == "someone/memory"


def test_an_empty_variable_leaves_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCR_MEMORY", "")
    assert Settings.from_env().memory == Settings().memory


def test_a_tilde_in_the_home_is_the_users_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCR_HOME", "~/pictures")
    assert Settings.from_env().home == Path.home() / "pictures"


def test_a_home_relative_to_the_folder_is_the_same_for_a_process_begun_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GCR_HOME", "pictures")
    monkeypatch.chdir(tmp_path)
    assert Settings.from_env().home == tmp_path / "pictures"


def test_limits_and_switches_are_read_from_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCR_MAX_PICTURES", "500")
    monkeypatch.setenv("GCR_MAX_UPLOAD_BYTES", "1000000")
    monkeypatch.setenv("GCR_TRAINING", "no")
    settings = Settings.from_env()
    assert (settings.max_pictures, settings.max_upload_bytes, settings.training) == (500, 1_000_000, False)
    assert settings.max_steps == Settings.max_steps


def test_several_names_stand_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCR_HOSTS", "gcr.example, *.lan,")
    settings = Settings.from_env()
    assert settings.hosts == ("gcr.example", "*.lan") and settings.origins == ()


def test_every_setting_is_in_the_documents_with_its_default() -> None:
    table = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `GCR_(\w+)` \| (.*?) \|", table, re.MULTILINE))
    assert list(rows) and {field.name.upper() for field in fields(Settings)} == rows.keys()
    for field in fields(Settings):
        if isinstance(field.default, int) and not isinstance(field.default, bool):
            number, unit = re.match(r"([\d,]+)(?: (MiB|GiB))?", rows[field.name.upper()]).groups()
            size = {"MiB": 2**20, "GiB": 2**30}.get(unit, 1)
            assert int(number.replace(",", "")) * size == field.default, field.name


@pytest.mark.parametrize(
    ("name", "value"), [("GCR_MAX_PICTURES", "many"), ("GCR_MAX_STEPS", "-1"), ("GCR_TRAINING", "2")]
)
def test_a_value_that_cannot_be_read_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{name} is '{value}', .*: (set it to 1 or 0|write digits only)"):
        Settings.from_env()


@pytest.mark.parametrize(
    ("space", "given", "visitors"), [("", "", False), ("me/app", "", True), ("me/app", "0", False)]
)
def test_on_a_space_those_who_use_the_page_are_strangers_unless_set(
    monkeypatch: pytest.MonkeyPatch, space: str, given: str, visitors: bool
) -> None:
    monkeypatch.setenv("SPACE_ID", space)
    monkeypatch.setenv("GCR_VISITORS", given)
    assert Settings.from_env().visitors is visitors
