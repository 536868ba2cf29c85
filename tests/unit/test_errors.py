"""What is told of an exception, from whatever library it comes."""

import errno
import os

import pytest
from safetensors import SafetensorError

from gcr_core.errors import GalleryError, InputError, first_line, one_line

NO_ROOM = "cannot be written (No space left on device): make room on its disk"
MISTAKES = [
    (InputError("top is 0:\n  choose one from 1"), "top is 0: choose one from 1"),
    (GalleryError("no image"), "no image"),
    (OSError(errno.ENOSPC, "No space left on device", "/m/a"), f"'/m/a' {NO_ROOM}"),
    (OSError(errno.ENOSPC, "No space left on device", "/from", None, "/to"), f"'/to' {NO_ROOM}"),
    (OSError(errno.EFBIG, "File too large"), "a file cannot be written (File too large): make room"),
    (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "b"), f"'b' cannot be written ({os.strerror(errno.EDQUOT)})"),
    (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), f"a file {NO_ROOM}"),
    (SafetensorError("I/O error: File too large (os error 27)"), "a file cannot be written (File too large)"),
    (
        SafetensorError("I/O error: Read-only file system (os error 30)"),
        "a file cannot be used (Read-only file system)",
    ),
    (OSError("4096 requested and 512 written"), f"a file {NO_ROOM}"),
    (RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter: file write failed"), f"a file {NO_ROOM}"),
    (RuntimeError("Error in fwrite: write error in /m/index.faiss: No space left on device"), f"a file {NO_ROOM}"),
    (
        PermissionError(errno.EACCES, "Permission denied", "/m"),
        "'/m' cannot be used (Permission denied): name a folder",
    ),
    (OSError(errno.EROFS, "Read-only file system", "/m"), "'/m' cannot be used (Read-only file system): name a folder"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/m/a"), "'/m/a' cannot be used (Not a directory)"),
    (OSError("image file is truncated"), "a file cannot be used (image file is truncated): check the path"),
    (MemoryError(), "there is not enough memory for this (MemoryError): close other programs"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "not enough memory"),
    (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."), "there is not enough memory for this (CUDA"),
]


@pytest.mark.parametrize(("error", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_what_a_user_can_act_on_is_one_line(error: Exception, words: str) -> None:
    told = one_line(error) or ""
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("file"),
        TypeError("no attribute"),
        RuntimeError("shapes (3, 4) and (5, 6)"),
        AssertionError(),
        IndexError("list index"),
        SafetensorError("Error while deserializing header: invalid header length"),
        ZeroDivisionError(),
        RecursionError("maximum depth"),
        UnicodeDecodeError("utf-8", b"", 0, 1, "x"),
    ],
    ids=repr,
)
def test_a_fault_of_the_program_is_none(error: Exception) -> None:
    assert one_line(error) is None


def test_the_first_line_is_the_type_where_nothing_is_said() -> None:
    assert (first_line(ValueError("a\nb")), first_line(ValueError(" "))) == ("a", "ValueError")
