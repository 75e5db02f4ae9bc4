"""`python scripts/reference.py`: write docs/reference/ anew, from the program itself."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FOLDER = ROOT / "docs" / "reference"


def pages() -> dict[str, str]:
    """Name of the file -> its whole text."""
    os.environ.pop("RESA_HUB_PLUGINS", None)  # the rows of a plugin are no part of the reference
    from scripts.docs_pages import cli, environment, exit_codes, files, python

    return {
        "cli.md": cli.page(),
        "python.md": python.page(),
        "environment.md": environment.page(),
        "files.md": files.page(),
        "exit-codes.md": exit_codes.page(),
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
