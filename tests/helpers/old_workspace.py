"""A workspace with adapters, evaluations, samples, controls and rollouts: the one that an older version wrote."""

import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "workspace-0.1.0.tar.gz"


def unpack(folder: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder
