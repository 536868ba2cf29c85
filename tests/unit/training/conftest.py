"""Fixtures of the tests of training."""

import pytest
import torch

from gcr_core.models import backbone as backbone_module
from gcr_core.models import inspection as inspection_module
from gcr_core.models.backbone import Backbone


@pytest.fixture(scope="session")
def mini(mini_folder):
    """For reading only."""
    return Backbone.from_pretrained(mini_folder, device="cpu", dtype=torch.float32)


@pytest.fixture
def large(monkeypatch):
    """Every backbone counts as a large one, and is loaded in float32 on every machine."""
    monkeypatch.setattr(backbone_module, "SMALL_PARAMETERS", 0)
    monkeypatch.setattr(inspection_module, "SMALL_PARAMETERS", 0)
    monkeypatch.setattr(inspection_module, "does_bfloat16", lambda device: False)
