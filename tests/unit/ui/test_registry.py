"""Where strangers' things are opened: never in the process of the page."""

from dataclasses import replace
from pathlib import Path

import pytest

from gcr_core.data.gallery import Gallery
from gcr_core.data.images import open_image
from gcr_core.errors import GcrError
from gcr_core.serving import decoder
from gcr_core.serving.loading import LoadingMemory
from gcr_core.serving.model_process import ModelProcess
from gcr_core.serving.remote_memory import memory_host
from gcr_core.serving.workspace import Workspace
from gcr_core.settings import Settings
from gcr_core.ui.auth import Visitors
from gcr_core.ui.registry import Registry


@pytest.mark.parametrize("visitors", [True, False])
def test_pictures_of_strangers_are_opened_apart_ones_own_at_once(tmp_path: Path, visitors: bool) -> None:
    settings = Settings(home=tmp_path, visitors=visitors)
    loading = LoadingMemory(lambda: pytest.fail("nobody asked"))
    registry = Registry(loading, ModelProcess(memory_host, "memory"), Visitors(settings))
    assert (registry.open_picture == open_image) is not visitors
    assert isinstance(getattr(registry.open_picture, "__self__", None), decoder.Decoder) is visitors


def test_imports_of_strangers_go_on_apart(
    tmp_path: Path, tiny_gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, settings: Settings) -> Gallery:
        raise GcrError("apart: choose fewer")

    monkeypatch.setattr(decoder, "collect", refuse)
    own, strange = (
        Workspace(tmp_path / name, replace(Settings(), visitors=name == "strange")) for name in ("own", "strange")
    )
    assert len(own.collect([tiny_gallery.root])[1]) == 12
    with pytest.raises(GcrError, match="apart"):
        strange.collect([tiny_gallery.root])
