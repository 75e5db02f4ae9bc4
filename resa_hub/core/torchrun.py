"""This process among those that `torchrun` started: told from the environment, before anything heavy is loaded."""

import os


def _number(name: str, default: int) -> int:
    # SLURM and MPI set RANK and WORLD_SIZE too, for programs that never speak to each other.
    return int(os.environ.get(name, default)) if "TORCHELASTIC_RUN_ID" in os.environ else default


def rank() -> int:
    """0 for the process that decides, writes and speaks."""
    return _number("RANK", 0)


def local_rank() -> int:
    """Its number on this machine: the GPU that it takes."""
    return _number("LOCAL_RANK", 0)


def world_size() -> int:
    """Processes on all machines; 1 without torchrun."""
    return _number("WORLD_SIZE", 1)
