"""Failures of the machine in long work (a full disk, too little memory), turned into our own errors."""

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
DISK_MESSAGES = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
    "Read-only file system": errno.EROFS,
}
"""The same in the words of libraries that lose the number of the error (safetensors, torch)."""
MEMORY_MESSAGES = (
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
def machine_errors(progress_note: str) -> Iterator[None]:
    """Turn failures of disk and memory into `RunFailed`; our own errors and all others pass.

    progress_note: the end of the hint, which says what becomes of the work so far.
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        ours = machine_error(error, progress_note)
        if ours is None:
            raise
        raise ours from error


def machine_error(error: BaseException | None, progress_note: str = "") -> RunFailed | None:
    """Our error for a failure of disk or memory behind `error` or one of its causes; None for any other."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = _disk_errno(error)
        if number is not None:
            where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
            return RunFailed(DISK[number] + where, f"free some space, then run the same command again{progress_note}")
        if _is_memory_error(error):
            return RunFailed(f"the memory does not suffice ({type(error).__name__})", SMALLER + progress_note)
        error = error.__cause__ or error.__context__
    return None


def _disk_errno(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno if error.errno in DISK else None
    return next((number for words, number in DISK_MESSAGES.items() if words in str(error)), None)


def _is_memory_error(error: BaseException) -> bool:
    # torch.OutOfMemoryError by name: this file is light.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError | OSError) and any(words in str(error) for words in MEMORY_MESSAGES))
    )
