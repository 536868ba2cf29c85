"""What visitors have uploaded counts, whichever server beside this one, or before it, they sent it to."""

from pathlib import Path

import pytest

from gcr_core.errors import GcrError
from gcr_core.settings import Settings
from gcr_core.ui import upload_budget, uploads
from gcr_core.ui.upload_budget import Uploads


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def put(server: Path, owner: str, size: int) -> Path:
    file = server / owner / "0123" / "a.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * size)
    return file


def test_uploads_to_other_servers_count_with_ones_own(folder: Path) -> None:
    put(uploads.root(), "me", 10)
    put(folder / "gcr-1", "me", 20)
    put(folder / "gcr-2", "other", 40)
    assert upload_budget.counted() == {"me": 30, "other": 40}
    budget = Uploads(Settings(visitors=True, max_uploaded_bytes=50, max_uploaded_bytes_in_all=75))
    budget._bytes = upload_budget.counted()
    budget.check("me", 5)
    for size, whose in ((30, "you"), (10, "all visitors")):
        with pytest.raises(GcrError, match=f"with this {whose} would have uploaded"):
            budget.check("me", size)
