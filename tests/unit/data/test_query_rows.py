"""Queries as people write them down: bars, tabs, CSV in either order, JSON Lines."""

from typing import Any

import pytest

from gcr_core.data.query_rows import read

KNOWN = {"a.png", "b.png", "c d.jpg", "x, y.png"}


def rows(text: str) -> list[Any]:
    return [str(row) if isinstance(row, ValueError) else (row["query"], row["relevant"]) for _, row in lines(text)]


def lines(text: str) -> list[tuple[int, Any]]:
    return list(read(text.splitlines(keepends=True), KNOWN))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog | a.png\n\n  \ncat|b.png | a.png", [("a dog", ["a.png"]), ("cat", ["b.png", "a.png"])]),
        ("a dog\ta.png\na cat\tc d.jpg", [("a dog", ["a.png"]), ("a cat", ["c d.jpg"])]),
        ("a.png\ta dog\nb.png#1\ta cat", [("a dog", ["a.png"]), ("a cat", ["b.png"])]),
        ("unicorn |\nnothing\t", [("unicorn", []), "names no file"]),
        ("a dog, running, a.png\ncat,b.png", [("a dog,running", ["a.png"]), ("cat", ["b.png"])]),
        ("dog; a.png\ncat; b.png", [("dog", ["a.png"]), ("cat", ["b.png"])]),
        ('query,file_name\n"a dog, running",a.png\nnone,', [("a dog, running", ["a.png"]), ("none", [])]),
        ('query,relevant\ncat,"a.png;b.png"\ncat,"a.png, b.png"', [("cat", ["a.png", "b.png"])] * 2),
        ("file name;Caption\na.png;a dog", [("a dog", ["a.png"])]),
        ("query\tfile\tfile\ncat\ta.png\tb.png", [("cat", ["a.png", "b.png"])]),
        ('query\tfile\n"x ""y"""\ta.png', [('x "y"', ["a.png"])]),
        ('say "hi | a.png\n"5 inches" | b.png', [('say "hi', ["a.png"]), ("5 inches", ["b.png"])]),
        ('query,file\n"two\nlines",a.png\nafter,b.png', [("two\nlines", ["a.png"]), ("after", ["b.png"])]),
        ("comma | x, y.png", [("comma", ["x, y.png"])]),
        ('quoted, "x, y.png"', [("quoted", ["x, y.png"])]),
        ("text | a.png", [("text", ["a.png"])]),
        ("dog | gone.png", [("dog", ["gone.png"])]),
        ("dog, cat | a.png", [("dog, cat", ["a.png"])]),
        ('{"query": "dog", "relevant": ["a.png"]}', [("dog", ["a.png"])]),
        ("", []),
        ("\n \n", []),
    ],
)
def test_queries_are_read_as_they_are_written(text: str, expected: list[Any]) -> None:
    assert rows(text) == expected


@pytest.mark.parametrize(
    ("text", "number", "message"),
    [
        ("a dog | a.png\njust words", 2, "names no file"),
        ("just words", 1, "names no file"),
        ("query,foo\nx,a", 1, "has no column for the file but 'query,foo'"),
        ("foo,file_name\nx,a", 1, "has no column for the query but"),
        ("query,file\nx,a.png\na dog, running,a.png", 3, "has 3 fields, the columns are 2"),
        ('query,file\n"open,a.png\nx,b.png', 3, "opens a quote"),
        ('{"query": "dog", "relevant": ["a.png"]}\nfoo', 2, "is not JSON"),
        ('{"query": ' + "[" * 100_000, 1, "recursion"),
    ],
)
def test_a_line_that_is_none_says_why(text: str, number: int, message: str) -> None:
    [(found, error)] = [(number, row) for number, row in lines(text) if isinstance(row, ValueError)]
    assert (found, message in str(error)) == (number, True), error


def test_rows_are_read_while_lines_come() -> None:
    taken = []

    def endless():
        for number in range(1_000_000):
            taken.append(number)
            yield f"query {number} | a.png\n"

    reading = read(endless(), KNOWN)
    assert next(reading) == (1, {"query": "query 0", "relevant": ["a.png"]})
    assert len(taken) < 5
