"""Hits: what queries recalled, with the names of the images."""

from dataclasses import dataclass

from gcr_core.retrieval.beam_search import Beam


@dataclass(frozen=True)
class Hit:
    """One recalled image."""

    index: int
    file_name: str
    score: float
    """The sum of log-probabilities over the identifier's tokens, each over the codes at its depth or below its node."""
    identifier: str


@dataclass(frozen=True)
class Found:
    """What queries recalled."""

    hits: list[list[Hit]]
    traces: list[list[list[Beam]]]
    levels: list[float]
    """As `Recalled` has them."""
