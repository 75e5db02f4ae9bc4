"""feature-diff beside its controls on the embedded family: test problems of a seed that no choice was made on, three
seeds, T=0.6, paired over problems.

`python -m bench features`: the tables of docs/feature-diff.md, printed anew after every seed. About four minutes of one
core a seed; what is done lies in .resa-hub/bench, so a second call goes on. Seeds are those of SAE, rollouts and
training; an interval is over problems, the seeds' own numbers stand beside it. RESA_BENCH_SEEDS and RESA_BENCH_PROBLEMS
make it shorter; a longer run later takes over what is there.
"""

import os
from pathlib import Path
from typing import NamedTuple

from resa_hub.adapter.workspace import Workspace
from resa_hub.core.progress import Progress
from resa_hub.evaluation.evaluate import evaluate, stored_scores
from resa_hub.evaluation.plan import EvalSettings
from resa_hub.evaluation.statistics import paired_interval, retained
from resa_hub.evaluation.verdict import AdapterArm, judge_all
from resa_hub.extraction.extract import extract

SEEDS = tuple(range(int(os.environ.get("RESA_BENCH_SEEDS", "3"))))
TARGETS = ("tiny-r1", "tiny-r1b")
JUDGING = EvalSettings(
    problems=int(os.environ.get("RESA_BENCH_PROBLEMS", "250")),
    samples=4,
    seeds=0,
    split="test",
    greedy=False,
    problem_seed=7,
)
FOLDER = Path(".resa-hub/bench")
WITH_SAE = ("feature-diff", "random-features", "outside-features")


class Arm(NamedTuple):
    label: str
    method: str
    settings: tuple[str, ...] = ()


FIRST = Arm("64 features (tiny-feature-diff)", "feature-diff", ("features=64",))
"""SAE of 1,024 latents, k = 16. Arms of a seed that ask for the same SAE share it."""
RANDOM = "random LoRA of that norm"
SIXTEEN = ("features=16", "sae.latents=256", "sae.k=8", "selection=logits", "scale=1.5")
"""tiny-feature-diff-16: found on development problems (docs/feature-diff.md)."""
ARMS = (
    FIRST,
    Arm(RANDOM, "random"),
    Arm("16 features, all else as above", "feature-diff", ("features=16",)),
    Arm("16 features (tiny-feature-diff-16)", "feature-diff", SIXTEEN),
    Arm("16 others, equal norm", "outside-features", SIXTEEN),
    Arm("PCA, 16 directions", "pca-diff", ("features=16",)),
    Arm("PCA, 64 directions", "pca-diff", ("features=64",)),
    Arm("PCA, 1 direction", "pca-diff", ("features=1",)),
    Arm("logit-distill", "logit-distill"),
    Arm("64 others, equal norm", "outside-features", ("features=64",)),
    Arm("PCA, 4 directions", "pca-diff", ("features=4",)),
)
PAIRS = (
    (FIRST.label, "PCA, 64 directions"),
    (FIRST.label, "PCA, 1 direction"),
    (FIRST.label, "logit-distill"),
    (FIRST.label, "64 others, equal norm"),
    ("16 features (tiny-feature-diff-16)", "16 features, all else as above"),
    ("16 features (tiny-feature-diff-16)", "PCA, 16 directions"),
    ("16 features (tiny-feature-diff-16)", "PCA, 4 directions"),
    ("16 features (tiny-feature-diff-16)", "PCA, 1 direction"),
    ("16 features (tiny-feature-diff-16)", "16 others, equal norm"),
)
Table = list[list[int]]
"""[problems][samples] of 0 and 1."""


def made(home: Workspace, seed: int) -> dict[str, str]:
    """Label -> reference of every adapter of a seed, extracted where it is not there."""
    first, saes, names = "", {}, {}
    for number, arm in enumerate(ARMS):
        settings, asked = list(arm.settings), tuple(setting for setting in arm.settings if setting.startswith("sae."))
        if arm.method in WITH_SAE and asked in saes:
            settings += ["sae.mode=pretrained", f"sae.origin={saes[asked]}"]
        if arm.method == "random":
            settings.append(f"norm_of={first}")
        adapter, _ = extract(
            "tina-tiny",
            method=arm.method,
            settings=settings,
            seed=seed,
            name=f"{number}-{seed}",
            workspace=home.folder,
            progress=Progress(quiet=True),
        )
        first = first or adapter.manifest.reference
        if arm.method in WITH_SAE:
            saes.setdefault(asked, adapter.folder / "sae/layers.2")
        names[arm.label] = adapter.manifest.reference
    return names


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    home, names = Workspace.find(FOLDER), {}
    for seed in SEEDS:
        names |= {(label, seed): name for label, name in made(home, seed).items()}
        for target in TARGETS:
            report(home, target, names, SEEDS[: SEEDS.index(seed) + 1])


def report(home: Workspace, target: str, names: dict[tuple[str, int], str], seeds: tuple[int, ...]) -> None:
    """The table of the seeds so far: answers of an arm are pooled over its adapters, those of base and source repeated
    beside them.
    """
    evaluate(
        list(names.values()),
        target=target,
        settings=JUDGING,
        workspace=home.folder,
        progress=Progress(quiet=True),
        record=False,
    )
    tables = stored_scores(list(names.values()), target, JUDGING, home, roles=("base", "source", "adapter"))

    def wide(table: Table) -> Table:
        return [row * len(seeds) for row in table]

    def pool(label: str) -> Table:
        return [
            [score for row in rows for score in row]
            for rows in zip(*(tables[names[label, seed]] for seed in seeds), strict=True)
        ]

    base, source, pooled = wide(tables["base"]), wide(tables["source"]), {arm.label: pool(arm.label) for arm in ARMS}
    controls = {f"random-{seed}": wide(tables[names[RANDOM, seed]]) for seed in seeds}
    verdicts = judge_all(
        base, source, {arm.label: AdapterArm(pooled[arm.label], controls) for arm in ARMS if arm.label != RANDOM}
    )
    score = {name: 100 * sum(map(sum, tables[name])) / sum(map(len, tables[name])) for name in ("base", "source")}
    said = ", ".join(f"{name} {value:.1f}%" for name, value in score.items())
    print(f"\n  {target}: {len(base)} problems x {JUDGING.samples} samples, seeds {', '.join(map(str, seeds))}; {said}")
    print(f"  {'arm':36} {'gain, points':>22} {'retained':>20}  {'a seed':18} verdict")
    for arm in ARMS:
        gain, kept = paired_interval(pooled[arm.label], base), retained(pooled[arm.label], base, source)
        each = " ".join(
            f"{retained(tables[names[arm.label, seed]], tables['base'], tables['source']).value or 0:5.2f}"
            for seed in seeds
        )
        word = verdicts[arm.label].word if arm.label in verdicts else "the control"
        ratio = f"{kept.value:.2f} [{kept.low:.2f}, {kept.high:.2f}]" if kept.value is not None else "-"
        print(
            f"  {arm.label:36} {100 * gain.value:+6.1f} [{100 * gain.low:+5.1f}, {100 * gain.high:+5.1f}] "
            f"{ratio:>20}  {each:18} {word}"
        )
    print()
    for one, other in PAIRS:
        found = paired_interval(pooled[one], pooled[other])
        print(
            f"  {one + ' - ' + other:74} {100 * found.value:+6.1f} [{100 * found.low:+5.1f}, {100 * found.high:+5.1f}]",
            flush=True,
        )
