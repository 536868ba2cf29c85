"""Fixtures of the tests of training."""

import pytest

from gcr_core.models import backbone as backbone_module
from gcr_core.models import inspection as inspection_module


@pytest.fixture
def large(monkeypatch):
    """Every backbone counts as a large one, and is loaded in float32 on every machine."""
    monkeypatch.setattr(backbone_module, "SMALL_PARAMETERS", 0)
    monkeypatch.setattr(inspection_module, "SMALL_PARAMETERS", 0)
    monkeypatch.setattr(inspection_module, "does_bfloat16", lambda device: False)
