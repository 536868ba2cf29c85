"""Errors that a user can act on. A message is one line: the value, the limit, the remedy."""


class GcrError(Exception):
    """A mistake of the user's; commands print it as one line and exit with status 2."""


class InputError(GcrError):
    """A query, `top`, `beams` or an image file that cannot be used."""


class GalleryError(GcrError):
    """A gallery, its metadata, a zip or a query file that cannot be used."""


class MemoryFormatError(GcrError):
    """A folder that is no memory, or one of another format version."""


class HubError(GcrError):
    """A model that is neither here nor on the hub, or a hub that cannot be reached."""


class NotFoundError(GcrError):
    """A gallery, job or memory that is not there, or not the asker's; the two are not told apart."""


def first_line(error: Exception) -> str:
    """What an exception of a library says, on one line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
