"""Names of models: the same folder on every machine."""

from pathlib import Path

import pytest

from gcr_core.errors import HubError
from gcr_core.files import hub


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project" / "checkpoints" / "model"
    (folder / "part").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(hub, "ROOT", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_what_the_project_ships_has_a_name_that_holds_anywhere(shipped: Path) -> None:
    for name in (str(shipped), "../project/checkpoints/model", "checkpoints/model"):
        assert hub.portable(name) == "checkpoints/model"
    for name in (str(shipped / "part"), str(shipped.parent), "../elsewhere", "owner/model", "nowhere", ""):
        assert hub.portable(name) == name


def test_a_shipped_name_is_found_from_every_working_directory(shipped: Path) -> None:
    assert hub.fetch("checkpoints/model", "another") == hub.here("checkpoints/model", "another") == shipped
    assert hub.absolute("checkpoints/model") == str(shipped)
    own = Path("checkpoints/model")
    own.mkdir(parents=True)
    assert hub.fetch("checkpoints/model", "another") == own.absolute()
    assert hub.portable("checkpoints/model") == "checkpoints/model", "another folder, of the same relative name"
    with pytest.raises(HubError, match="no folder here and no hub id"):
        hub.fetch("checkpoints/a/b", "another")
