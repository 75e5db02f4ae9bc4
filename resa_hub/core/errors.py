"""Errors a person can act on: what, why and the next step; the class decides the exit code."""


class HubError(Exception):
    """Base of all expected errors. `hint` is the next step, shown on a line of its own."""

    exit_code = 1
    kind = "failed"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RunFailed(HubError):
    """The run itself failed: disk, NaN, memory, an unwritable folder."""


class Usage(HubError):
    """Options that contradict each other, lack something or have a wrong value."""

    exit_code, kind = 2, "usage"


class NotFound(HubError):
    """An adapter, model, file or name that does not exist."""

    exit_code, kind = 3, "not found"


class DoesNotFit(HubError):
    """An adapter on a model of other shapes or unrelated weights."""

    exit_code, kind = 4, "does not fit"


class Integrity(HubError):
    """Bytes that are not what their manifest, hash or signature says."""

    exit_code, kind = 5, "integrity"


class Conflict(HubError):
    """A version that exists with other bytes, or another process at the same work."""

    exit_code, kind = 6, "conflict"


class Network(HubError):
    """A place that does not answer or does not let us in."""

    exit_code, kind = 7, "network"


class MissingExtra(HubError):
    """A package that an option needs and that is not installed."""

    exit_code, kind = 8, "missing extra"


class NoEffect(HubError):
    """An adapter that does not change its model as it must."""

    exit_code, kind = 9, "no effect"


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint naming the nearest known word, else a few of the known ones."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(sorted(known)[:12])}{', ...' if len(known) > 12 else ''}" if known else ""
