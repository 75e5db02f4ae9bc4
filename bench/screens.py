"""What SAE size, selection, number and scale do to the share of KL(source || target) that a patch closes, on
development rollouts; nothing is trained but SAEs.

`python -m bench screens`: the table of docs/feature-diff.md, about four minutes of one core. The SAEs lie in
.resa-hub/bench: a second call is faster.
"""

from collections.abc import Sequence

from resa_hub.adapter.workspace import Workspace
from resa_hub.core.progress import Progress
from resa_hub.extraction.extract import screen
from resa_hub.extraction.plan import plan

from .features import FOLDER

NUMBERS = ("screen.features=[16,64]", "screen.scales=[1,1.5]")
SAES = (
    ("1,024 latents, k 16", ()),
    ("256 latents, k 16", ("sae.latents=256",)),
    ("256 latents, k 8", ("sae.latents=256", "sae.k=8")),
    ("128 latents, k 8", ("sae.latents=128", "sae.k=8")),
)
SELECTIONS = ("mean", "attribution", "logits")


def closed(home: Workspace, method: str, settings: Sequence[str]) -> list[tuple[str, float, float]]:
    """(patch, scale, share closed) of every candidate."""
    made = plan("tina-tiny", method=method, settings=list(settings), registry=home.registry)
    return [
        (row["patch"], row["scale"], row["closed"])
        for row in screen(made, workspace=home.folder, progress=Progress(quiet=True))
    ]


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    home = Workspace.find(FOLDER)
    rows = [("no SAE", "principal directions", "pca-diff", ("screen.features=[1,4,16,64]", "screen.scales=[1,1.5]"))]
    rows += [
        (label, selection, "feature-diff", (*sae, *NUMBERS, f"selection={selection}"))
        for label, sae in SAES
        for selection in SELECTIONS
    ]
    for label, selection, method, settings in rows:
        found = closed(home, method, settings)
        print(
            f"  {label:20} {selection:22} "
            + "  ".join(f"{patch.split()[0]} at {scale:g}: {100 * share:.0f}%" for patch, scale, share in found),
            flush=True,
        )
