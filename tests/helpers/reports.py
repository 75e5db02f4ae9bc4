"""Reports for tests: the committed evaluations of the example adapter, with samples drawn here so that they give the
documents' own scores.
"""

import json
import random
from typing import Any

from resa_hub.adapter import usage
from resa_hub.adapter.manifest import read_manifest
from resa_hub.adapter.results import AnyEvaluation, Overlap, Sweep, in_current_words, read_evaluation, read_sweep
from resa_hub.evaluation.reports import corrected
from resa_hub.report import report_data, sample_statistics
from resa_hub.report.report_data import PublishedScore, Report, ReportEntry
from resa_hub.report.sample_statistics import Graded
from tests.helpers.commands import ROOT

EVALS = ROOT / "adapters/tina-tiny-feature-diff-l2/0.1.0/evals"
HOSTILE = (
    "</script><script>document.title='owned'</script>\"'><img src=x "
    "onerror=\"document.title='owned'\">&lt;b&gt; \u202egnp.exe\u202c \u2066x\u2069 \ud800 \x07"
)


def raw(target: str = "tiny-r1") -> dict[str, Any]:
    return json.loads((EVALS / f"{target}--tiny-chain--test.json").read_text())


def tables(document: AnyEvaluation, text: str = "", seed: int = 0) -> dict[str, list[list[Graded]]]:
    """Samples of every arm with exactly the scores of the document."""
    found = {}
    for arm in document.arms:
        drawn, count = random.Random(f"{seed} {arm.role}"), document.problems * document.samples
        right = [True] * round(arm.score * count / 100)
        right += [False] * (count - len(right))
        drawn.shuffle(right)
        samples = [_sample(drawn, good, text) for good in right]
        found[arm.name] = [samples[at : at + document.samples] for at in range(0, count, document.samples)]
    return found


def _sample(drawn: random.Random, right: bool, text: str) -> Graded:
    steps = drawn.randint(2, 5)
    finished = right or drawn.random() < 0.9
    working = ";".join(f"{drawn.randint(0, 9)}+{drawn.randint(0, 9)}={drawn.randint(0, 9)}" for _ in range(steps))
    told = f"<think>{working}</think><answer>{6 if right else 7}</answer>" if finished else f"<think>{working}"
    return Graded(f"{text}{told}", 4 * steps + 12, finished, right, "" if finished else sample_statistics.NO_ANSWER)


def entry(content: dict[str, Any], most: int = 400, text: str = "", **besides: Any) -> ReportEntry:
    document = read_evaluation(content, "test")
    drawn = tables(document, text)
    problems = [(f"{text}{number}+6=", "6") for number in range(document.problems)]
    browser = sample_statistics.embedded(problems, drawn, most) if most else None
    manifest = read_manifest(EVALS.parent)
    return ReportEntry(
        document,
        report_data.scalars(in_current_words(content)),
        seen=sample_statistics.observe(drawn, "base"),
        browser=browser,
        unseen="" if browser else "they were not asked for",
        source="tina-tiny",
        method="feature-diff",
        use=usage.snippets(manifest),
        license=usage.license_sentence(manifest),
        **besides,
    )


def curve() -> Sweep:
    places = [
        {
            "layer": layer,
            "seed": seed,
            "adapter": f"a-{layer}-{seed}@0.1.0",
            "gain": 9.0 * layer + seed,
            "gain_ci": [9.0 * layer - 4, 9.0 * layer + 6],
            "verdict": "transferred" if layer else "underpowered",
            "controls": [-1.5, 0.5 * seed, 2.0],
        }
        for layer in range(5)
        for seed in range(2)
    ]
    content = {
        "method": "feature-diff",
        "source": "tina-tiny",
        "target": "tiny-r1",
        "benchmark": "tiny-chain",
        "split": "dev",
        "problems": 200,
        "samples": 2,
        "places": places,
        "sentence": "Layers differ beyond the spread of the seeds (p = 0.01).",
        "source_gain": 50.0,
    }
    return read_sweep(content, "test")


def single(**besides: Any) -> Report:
    published = [
        PublishedScore("resa-tiny", "adapter", 80.0, (60.0, 92.0), "arXiv 0000.00000"),
        PublishedScore("resa-many", "other", 75.0, None, "arXiv 0000.00000"),
    ]
    contrasts = [{"against": "source", "role": "source", "value": -0.1, "low": -1.8, "high": 1.6, "p": 0.9}]
    notes = ["pairing is weaker with this engine.", Overlap("tiny-chain", 2048, 500, [], []).sentence]
    content = raw() | {"contrasts": contrasts, "notes": notes}
    for arm in content["arms"]:
        arm["prompts"] = f"sha256:{'0123456789abcdef' * 4}"
    return Report([entry(content, published=published, **besides)], [curve()], "2026-01-01", "0.1.0")


def several(count: int = 4, **besides: Any) -> Report:
    """Four: two adapters on two models, one of them no better than noise; more: further adapters."""
    entries = []
    for number in range(count):
        content = raw(("tiny-r1", "tiny-r1b")[number % 2])
        if number // 2:
            content["adapter"] = f"other-{number // 2}@0.1.0"
            content["content_hash"] = f"sha256:{number // 2:064x}"
            content["arms"][-4]["name"] = content["adapter"]
            for seed in (1, 2, 3):
                content["arms"][seed - 4]["name"] = f"{content['adapter']} random-{seed}"
            content |= {
                "gain": -0.4,
                "gain_ci": [-1.9, 1.1],
                "p": 0.7,
                "verdict": "not distinguishable from controls",
                "sentence": "-0.4 points over base.",
            }
        entries.append(entry(content, **besides))
    return Report(corrected(entries), [], "2026-01-01", "0.1.0")
