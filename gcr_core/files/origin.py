"""Origin: by what others get a model that a memory does not hold: a name, and which version of it. Loads no model."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from gcr_core.errors import MemoryFormatError
from gcr_core.files.atomic import write_text
from gcr_core.files.hub import REPOSITORY_ID, commit, portable
from gcr_core.files.layout import weight_files


@dataclass(frozen=True)
class Origin:
    """A model of the hub or of the project's own `checkpoints/`."""

    name: str
    """A hub id, or "checkpoints/NAME"."""
    revision: str | None
    """The hub's commit hash, or the SHA-256 of the weights in `checkpoints/`."""

    @classmethod
    def of(cls, path_or_id: str, folder: Path) -> Self | None:
        """That of the model that was had by a name and lies in a folder; None where nobody else has that folder."""
        if (name := portable(str(folder))) != str(folder):
            weights = b"".join(path.read_bytes() for path in weight_files(folder))
            return cls(name, sha256(weights).hexdigest())
        revision = commit(folder) if REPOSITORY_ID.fullmatch(path_or_id) else None
        return cls(path_or_id, revision) if revision else None

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote, or a person: a folder may be the name. Raises MemoryFormatError."""
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            name, revision = facts["name"], facts.get("revision")
            if not (name and isinstance(name, str) and isinstance(revision, str | None)):
                raise ValueError("no name and revision")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise MemoryFormatError(f"{path} names no model ({error}): memorise the gallery anew") from None
        return cls(name, revision)

    def write(self, path: Path) -> None:
        """Writes {"name", "revision"} as JSON."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    def __str__(self) -> str:
        return f"{self.name!r}" + (f" at revision {self.revision}" if self.revision else "")
