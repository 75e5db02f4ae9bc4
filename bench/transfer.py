"""Which method transfers on the embedded family: each beside its random controls, on fresh test problems, at T=0.6.

`python -m bench transfer`: about ten minutes; the table of docs/tiny.md.
"""

import tempfile

from resa_hub.core.progress import Progress
from resa_hub.evaluation.evaluate import evaluate
from resa_hub.evaluation.plan import EvalSettings
from resa_hub.extraction.extract import extract

ARMS = (
    ("feature-diff, 64 features", "feature-diff", []),
    ("feature-diff, 16 features", "feature-diff", ["features=16"]),
    ("feature-diff, 4 features", "feature-diff", ["features=4"]),
    ("random-features, 64", "random-features", []),
    ("random-features, 16", "random-features", ["features=16"]),
    ("pca-diff, 4 directions", "pca-diff", ["features=4"]),
    ("pca-diff, 1 direction", "pca-diff", ["features=1"]),
    ("logit-distill", "logit-distill", []),
    ("sae-tuning, lr 1e-3", "sae-tuning", []),
    ("sae-tuning, lr 1e-4", "sae-tuning", ["training.learning_rate=1e-4"]),
    ("sae-tuning, lr 1e-6 as published", "sae-tuning", ["training.learning_rate=1e-6"]),
)


def main(seeds: tuple[int, ...] = (0,)) -> None:
    quiet = Progress(quiet=True)
    print(f"  {'arm':34} {'target':9} {'gain, points':>24} {'retained':>20}  verdict")
    with tempfile.TemporaryDirectory() as home:
        for number, (label, method, settings) in enumerate(ARMS):
            for seed in seeds:
                adapter, _ = extract(
                    "tina-tiny",
                    method=method,
                    settings=settings,
                    seed=seed,
                    name=f"arm-{number}-{seed}",
                    workspace=home,
                    progress=quiet,
                )
                for target in ("tiny-r1", "tiny-r1b"):
                    (e,) = evaluate(
                        adapter.manifest.reference,
                        target=target,
                        settings=EvalSettings(greedy=False),
                        workspace=home,
                        progress=quiet,
                    )
                    kept = (
                        f"{e.retained:.2f} [{e.retained_ci[0]:.2f}, {e.retained_ci[1]:.2f}]"
                        if e.retained is not None and e.retained_ci
                        else "-"
                    )
                    print(
                        f"  {label:34} {target:9} {e.gain:+6.1f} [{e.gain_ci[0]:+5.1f}, {e.gain_ci[1]:+5.1f}] "
                        f"{kept:>20}  {e.verdict}",
                        flush=True,
                    )
