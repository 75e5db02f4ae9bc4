"""`python -m bench.smollm2 [--workspace FOLDER]`: the whole experiment; killed and run again, it goes on."""

import argparse
import os
from pathlib import Path

from resa_hub.core.progress import Progress

from . import experiment, workspace
from .arms import ARMS, FURTHER

parser = argparse.ArgumentParser(prog="python -m bench.smollm2", description=__doc__)
parser.add_argument(
    "--workspace",
    type=Path,
    default=Path("smollm2-workspace"),
    help="models, adapters, samples and results; about 6 GB",
)
parser.add_argument("--only-build", action="store_true", help="stop when the models are made")
parser.add_argument(
    "--jobs", type=int, default=1, help="arms at work at the same time, the cores shared out among them"
)
parser.add_argument("--further", action="store_true", help="further arms: see FURTHER in arms.py")
arguments = parser.parse_args()
home = arguments.workspace.resolve()
home.mkdir(parents=True, exist_ok=True)
os.chdir(home)  # the registry of the workspace names its models by relative paths
chosen = ARMS + FURTHER * arguments.further
experiment.run(home, workspace.FULL, Progress(), only_build=arguments.only_build, arms=chosen, jobs=arguments.jobs)
