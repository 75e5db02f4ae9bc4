"""What a machine does to long work, told as our own errors: a full disk, too little memory."""

import contextlib
import errno
from collections.abc import Iterator

from .errors import HubError, RunFailed

DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file became larger than is allowed here",
    errno.EROFS: "the disk can only be read",
    errno.EIO: "the disk does not answer as it should",
}
SAID = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Read-only file system": errno.EROFS,
}
"""How libraries that lose the number of the error (safetensors, torch) word it."""
MEMORY = (
    "DefaultCPUAllocator",
    "can't allocate memory",
    "out of memory",
    "std::bad_alloc",
    "Cannot allocate memory",
    "ENOMEM",
)
SMALLER = (
    "make it smaller: --set sae.batch_tokens=..., training.batch_rows=..., training.chunk_tokens=..., or "
    "--cache-gb; a changed setting starts anew"
)


@contextlib.contextmanager
def explained(kept: str) -> Iterator[None]:
    """Turn failures of disk and memory into `RunFailed`; our own errors and all others pass.

    kept: what is said about the work so far.
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        found = explain(error, kept)
        if found is None:
            raise
        raise found from error


def explain(error: BaseException | None, kept: str = "") -> RunFailed | None:
    """The error behind `error`, its causes included, where it is one of disk or memory."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = _disk(error)
        if number is not None:
            where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
            return RunFailed(DISK[number] + where, f"free some space, then run the same command again{kept}")
        if _memory(error):
            return RunFailed(f"the memory does not suffice ({type(error).__name__})", SMALLER + kept)
        error = error.__cause__ or error.__context__
    return None


def _disk(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno if error.errno in DISK else None
    return next((number for words, number in SAID.items() if words in str(error)), None)


def _memory(error: BaseException) -> bool:
    # torch.OutOfMemoryError by name: this file is light.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError | OSError) and any(words in str(error) for words in MEMORY))
    )
