"""Answers: what each query of an evaluation got, as rows for a table or a file. Knows no memory."""

import csv
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gcr_core.data.queries import Query
from gcr_core.errors import InputError
from gcr_core.evaluation.evaluate import ENGINES, Asked
from gcr_core.files.atomic import new_file

OF_SIDE = ("rank", "first", "score", "match", "latency_ms")
COLUMNS = ("query", "relevant", *(f"{engine}_{column}" for engine in ENGINES for column in OF_SIDE), "mistake")


def row(query: Query, asked: Asked) -> dict[str, Any]:
    """{"query", "relevant", side: {"rank": of the first relevant image, None where it is not among the first,
    "first": the file name that came first, "score", "match", "latency_ms"}, "mistake"}, JSON-ready; what there is not
    is None."""
    return {
        "query": query.text if query.text is not None else str(query.image),
        "relevant": sorted(query.relevant),
        **{engine: _side(asked, engine) for engine in ENGINES},
        "mistake": asked.mistake or None,
    }


@contextmanager
def csv_file(path: str | None) -> Iterator[Callable[[Query, Asked], None]]:
    """Takes each query that is asked, and writes it as a row of a table that is there once the block ends well; takes
    it and does nothing where there is no path. Raises InputError where several processes share the queries out."""
    if path is None:
        yield lambda query, asked: None
        return
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError(f"{path} is written by one process, several share the queries out: start one, or leave --csv")
    with new_file(Path(path)) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, [])
        yield lambda query, asked: write_csv(file, [row(query, asked)], header=False)


def write_csv(file: TextIO, rows: Iterable[dict[str, Any]], more: Iterable[str] = (), header: bool = True) -> None:
    """Rows as a table of COLUMNS, behind `more` columns that the rows have; several relevant files are parted by |."""
    table = csv.DictWriter(file, [*more, *COLUMNS], restval="", extrasaction="ignore")
    if header:
        table.writeheader()
    for each in rows:
        sides = {f"{engine}_{column}": each[engine][column] for engine in ENGINES for column in OF_SIDE}
        table.writerow({**each, **sides, "relevant": "|".join(each["relevant"])})


def _side(asked: Asked, engine: str) -> dict[str, Any]:
    side = asked.outcome[engine]
    numbers = {column: float(side[column]) for column in ("score", "match", "latency_ms")}
    known = {column: None if math.isnan(number) else number for column, number in numbers.items()}
    return {"rank": int(side["rank"]) or None, "first": asked.first.get(engine), **known}
