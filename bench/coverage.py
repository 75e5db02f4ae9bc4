"""What the intervals of 95% cover, and how often each word of the verdict is said where it is wrong. `python -m bench
coverage [RUNS]`: minutes.

Populations of the base's rate per problem: symmetric and skewed Betas, and the rates of tiny-r1 measured over 16
samples. The adapter gains a share z of the distance to 1, z uniform on [0, 0.8] problem by problem (so the gain differs
between problems), under common random numbers.
"""

import sys
from collections import Counter
from typing import Any

import numpy

from resa_hub.evaluation import statistics
from resa_hub.evaluation.verdict import AdapterArm, judge

BETAS = ((1.0, 1.0), (2.0, 2.0), (0.3, 0.3), (0.1, 0.9), (0.9, 0.1))
SIZES = ((30, 4), (30, 64), (500, 4))
SHARE = 0.4
"""Mean share of the distance to 1 that an adapter gains."""
Rates = Any


def tiny_rates(problems: int = 300, samples: int = 16) -> Rates:
    """[problems]: share of right answers of tiny-r1 at T=0.6."""
    from .family import answered

    return numpy.array(answered("tiny-r1", 0.6, samples, problems)).mean(1)


def populations(tiny: Rates) -> dict[str, tuple[Rates, float]]:
    """Name -> (a million rates to draw from, their mean)."""
    draw = numpy.random.default_rng(1)
    found = {f"Beta({a:g},{b:g})": draw.beta(a, b, 1_000_000) for a, b in BETAS} | {"tiny-r1, measured": tiny}
    return {name: (rates, float(rates.mean())) for name, rates in found.items()}


def drawn(rates: Rates, problems: int, samples: int, seed: int) -> Any:
    """True rates of base and adapter, and the answers of adapter, base and a source that gains 0.6 of the distance."""
    draw = numpy.random.default_rng(seed)
    p = draw.choice(rates, (problems, 1))
    q, s = p + (1 - p) * 2 * SHARE * draw.random((problems, 1)), p + (1 - p) * 0.6
    noise = draw.random((problems, samples))
    return p, q, *((noise < rate).astype(float) for rate in (q, p, s))


def covered(rates: Rates, mean: float, problems: int, samples: int, runs: int) -> dict[str, float]:
    """Shares of the runs whose interval holds the truth."""
    inside: Counter[str] = Counter()
    for seed in range(runs):
        p, q, adapter, base, source = drawn(rates, problems, samples, seed)
        gain, gain_source = (1 - mean) * SHARE, (1 - mean) * 0.6
        score, new, same = (
            statistics.average(base),
            statistics.paired_interval(adapter, base),
            statistics.same_problems_interval(adapter, base),
        )
        kept = statistics.retained(adapter, base, source)
        inside["score"] += score.low <= mean <= score.high
        inside["gain, new problems"] += new.low <= gain <= new.high
        inside["gain, these problems"] += same is not None and same.low <= (q - p).mean() <= same.high
        inside["retained"] += kept.low is None or kept.high is None or kept.low <= gain / gain_source <= kept.high
    return {name: count / runs for name, count in inside.items()}


SCENES = {
    "transferred, gain 0": (0.0, 0.0, 0.0),
    "transferred, as good as its controls": (0.3, 0.3, 0.3),
    "transferred, gain of exactly the margin": (None, -0.06, -0.06),
    "harmful, gain 0": (0.0, 0.0, 0.0),
}
"""Wrong word and scene -> share gained by the adapter and two controls; None is the share that makes the margin."""


def said(rates: Rates, mean: float, scene: str, problems: int, samples: int, runs: int) -> Counter[str]:
    """Words of the verdict; the source gains 0.6 of the distance to 1, so the margin is a tenth of that."""
    words: Counter[str] = Counter()
    for seed in range(runs):
        draw = numpy.random.default_rng(seed)
        p = draw.choice(rates, (problems, 1))
        noise = draw.random((problems, samples))
        shares = [0.06 if share is None else share for share in SCENES[scene]]
        gained = [numpy.clip(2 * draw.random((problems, 1)) * share, -1, 1) for share in shares]
        moved = [numpy.where(z >= 0, p + (1 - p) * z, p * (1 + z)) for z in gained]
        base, source, adapter, one, other = ((noise < rate).astype(float) for rate in (p, p + (1 - p) * 0.6, *moved))
        if not any(shares):  # answers of their own, or adapter and base would be equal
            adapter, one, other = ((draw.random((problems, samples)) < p).astype(float) for _ in range(3))
        words[judge(base, source, AdapterArm(adapter, {"one": one, "other": other})).word] += 1
    return words


def main() -> None:
    runs = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2].isdecimal() else 1_000
    statistics.sign_flip_p = lambda a, b: 1.0  # decides no word and takes nine tenths of the time
    found = populations(tiny_rates())
    columns = ("score", "gain, new problems", "gain, these problems", "retained")
    print(
        f"coverage of 95% intervals, % of {runs} runs\n| rates | n x K | "
        + " | ".join(columns)
        + " |\n|---|---|"
        + "---|" * len(columns)
    )
    for name, (rates, mean) in found.items():
        for problems, samples in SIZES:
            cells = covered(rates, mean, problems, samples, runs)
            print(
                f"| {name} | {problems} x {samples} | " + " | ".join(f"{100 * cells[c]:.1f}" for c in columns) + " |",
                flush=True,
            )
    runs = max(100, runs // 4)
    print(
        f"\nwrong words, % of {runs} runs (2.5 allowed)\n| wrong word, scene | rates | n x K | said "
        "|\n|---|---|---|---|"
    )
    for scene in SCENES:
        for name in ("Beta(1,1)", "Beta(0.1,0.9)", "tiny-r1, measured"):
            for problems, samples in SIZES[::2]:
                words = said(*found[name], scene, problems, samples, runs)
                print(
                    f"| {scene} | {name} | {problems} x {samples} | "
                    f"{100 * words[scene.partition(',')[0]] / runs:.1f} |",
                    flush=True,
                )
