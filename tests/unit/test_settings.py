"""Settings from the environment."""

from pathlib import Path

import pytest

from gcr_core.settings import ROOT, Settings


def test_defaults_name_the_checkpoints_beside_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GCR_HOME")
    settings = Settings.from_env()
    assert settings.memory == str(ROOT / "checkpoints" / "emoji")
    assert settings.backbone == str(ROOT / "checkpoints" / "gcr-mini")
    assert settings.clip == str(ROOT / "checkpoints" / "gcr-mini-clip")
    assert settings.home == Path.home() / ".cache" / "gcr"


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
