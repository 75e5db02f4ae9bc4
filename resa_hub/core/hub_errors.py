"""The errors of huggingface_hub, turned into our own."""

import contextlib
import errno
import json
from collections.abc import Iterator

from .errors import Conflict, HubError, Network, NotFound, RunFailed, Usage

DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EMFILE,
)


HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "httpcore2")
"""Of the client 1.x and 2.x: they raise classes of their own, which do not derive from OSError."""


SECONDS = 10.0
"""In which the Hub must answer at all."""


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn what the Hub's client raises into our errors; our own and those of other origin pass."""
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # its lines of tries that failed; the error that ends them says it
    try:
        yield
    except Exception as error:
        ours = _hub_error(what, error)
        if ours is None:
            raise
        raise ours from None


def hub_answers(endpoint: str | None = None) -> bool:
    """Whether the Hub is there, by one request: the client itself tries for 24 seconds to reach what is not."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import get_session

    try:
        get_session().head(endpoint or HfApi().endpoint, timeout=SECONDS)
    except Exception as error:
        if isinstance(_hub_error("", error), Network):
            return False
        raise
    return True


def _hub_error(what: str, error: BaseException) -> HubError | None:
    """Our error for one that the Hub's client raised; None for any other."""
    from huggingface_hub import errors

    # The client wraps what happened: a failed download in LocalEntryNotFoundError, a failed upload in RuntimeError.
    if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and error.__cause__:
        return _hub_error(what, error.__cause__)
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{what}: the repository has no such revision", "check what follows the @")
    if isinstance(error, errors.GatedRepoError):
        return Network(f"{what}: access is restricted", "ask for access on its page, then log in with `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotFound(
            f"{what}: no such repository, or it is private",
            "check the name; for a private one log in with `hf auth login`",
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return NotFound(f"{what}: the repository lacks a file that it lists", "ask its author to push it again")
    if isinstance(error, errors.HfHubHTTPError):
        return _status_error(what, getattr(error.response, "status_code", 0))
    if isinstance(error, errors.HFValidationError):
        return Usage(f"{what}: {error}", "write it like owner/name@revision")
    if isinstance(error, json.JSONDecodeError):
        return Network(f"{what}: the answer is not a Hub's", "check HF_ENDPOINT, or log in to this network")
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return RunFailed(
            f"{what}: {error.strerror}: {error.filename}",
            "check the permissions and the free space of the cache folder",
        )
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in HTTP_LIBRARIES:
        return unreachable(what, "" if isinstance(error, errors.LocalEntryNotFoundError) else type(error).__name__)
    return None


def unreachable(what: str, why: str = "") -> Network:
    hint = "check the network and HF_ENDPOINT, or name a local folder"
    return Network(f"{what}: the Hub cannot be reached{f' ({why})' if why else ''}", hint)


def _status_error(what: str, status: int) -> HubError:
    if status in (409, 412):
        return Conflict(
            f"{what}: somebody changed the repository meanwhile ({status})", "try again: it starts from the new state"
        )
    if status == 404:
        return NotFound(f"{what}: the Hub answered 404", "check the name and HF_ENDPOINT")
    hint = {
        401: "log in with `hf auth login`, or check the token",
        403: "the token lacks the right to do this: check its scope on the Hub",
        429: "too many requests: wait some minutes, or log in with `hf auth login`",
    }.get(status, "try again later")
    return Network(f"{what}: the Hub answered {status}", hint)
