"""Recipe: what a memory is made with, in words that a person chooses from. Imports no model library."""

from dataclasses import dataclass

from .errors import GcrError
from .identifiers import IDENTIFIER_TYPES
from .settings import Settings

PRESET_WORDS = {
    "quick": "A first look: knows the pictures, finds them by words close to their captions.",
    "balanced": "The usual choice: knows every picture and caption, finds most by other words too.",
    "thorough": "For keeping: four times as long, for large galleries and pictures that look alike.",
}
PRESETS = tuple(PRESET_WORDS)
SEEDS = 2**32


@dataclass(frozen=True)
class Recipe:
    """What a memory is made with. Raises GcrError for a preset, an identifier type or a seed that there is not."""

    backbone: str = Settings.backbone
    clip: str = Settings.clip
    identifiers: str = "atomic"
    preset: str = "balanced"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("preset", self.preset, PRESETS),
            ("identifier type", self.identifiers, IDENTIFIER_TYPES),
        ):
            if value not in known:
                raise GcrError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")
        if not 0 <= self.seed < SEEDS:
            raise GcrError(f"seed is {self.seed}: choose one from 0 to {SEEDS - 1:,}")
