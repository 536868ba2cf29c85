"""Where things are: one frozen dataclass, read from the GCR_* environment variables. Touches no file."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """Paths and model names; a model or memory is a folder or a hub id."""

    home: Path = Path.home() / ".cache" / "gcr"
    """Where galleries, jobs and memories made on this machine live (GCR_HOME)."""
    memory: str = str(ROOT / "checkpoints" / "emoji")
    """The memory that commands and app open when none is named (GCR_MEMORY)."""
    backbone: str = str(ROOT / "checkpoints" / "gcr-mini")
    """What memorising starts from (GCR_BACKBONE)."""
    clip: str = str(ROOT / "checkpoints" / "gcr-mini-clip")
    """The dense baseline's CLIP (GCR_CLIP)."""

    @classmethod
    def from_env(cls) -> "Settings":
        """Settings from the environment; an unset or empty variable leaves the default."""
        default = cls()
        return cls(
            home=Path(os.environ.get("GCR_HOME") or default.home).expanduser(),
            memory=os.environ.get("GCR_MEMORY") or default.memory,
            backbone=os.environ.get("GCR_BACKBONE") or default.backbone,
            clip=os.environ.get("GCR_CLIP") or default.clip,
        )
