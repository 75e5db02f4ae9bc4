"""This process among those that `torchrun` started, read from the environment before anything heavy is loaded."""

import os


def _number(name: str, default: int) -> int:
    # SLURM and MPI set RANK and WORLD_SIZE too, for programs that never speak to each other.
    return int(os.environ.get(name, default)) if "TORCHELASTIC_RUN_ID" in os.environ else default


def rank() -> int:
    """0 for the main process, which decides, writes and prints."""
    return _number("RANK", 0)


def local_rank() -> int:
    """Number of this process on its machine, and of the GPU that it uses."""
    return _number("LOCAL_RANK", 0)


def world_size() -> int:
    """Processes on all machines; 1 without torchrun."""
    return _number("WORLD_SIZE", 1)
