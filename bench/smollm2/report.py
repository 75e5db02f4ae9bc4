"""What was found, as tables in markdown: one row an adapter and target, gains in points with 95% intervals over
problems.
"""

from collections.abc import Sequence
from typing import Any


def interval(value: float | None, bounds: Sequence[float] | None, form: str) -> str:
    if value is None:
        return "-"
    return f"{value:{form}}" + (f" [{bounds[0]:{form}}, {bounds[1]:{form}}]" if bounds else "")


def scores(evaluations: list[dict[str, Any]]) -> list[str]:
    """Base and source of each target."""
    lines = ["| target | arm | score % | tokens | truncated % |", "|---|---|---|---|---|"]
    seen = set()
    for e in evaluations:
        for arm in e["arms"]:
            key = (e["target"], arm["name"])
            if arm["role"] in ("base", "source", "source-model") and key not in seen:
                seen.add(key)
                score = interval(arm["score"], arm["score_ci"], ".1f")
                lines.append(
                    f"| {e['target']} | {arm['name']} | {score} | {arm['tokens']:.1f} | {arm['truncated']:.1f} |"
                )
    return lines


def gains(evaluations: list[dict[str, Any]]) -> list[str]:
    """One row an adapter on a target: gain over base, over its nearest control, retained gain and verdict."""
    lines = [
        "| target | adapter | score % | gain | retained | over random control | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for e in evaluations:
        own = next(arm for arm in e["arms"] if arm["role"] == "adapter" and arm["name"] == e["adapter"])
        controls = [c for c in e["comparisons"] if c["against"] != "base"]
        nearest = min(controls, key=lambda c: c["value"]) if controls else None
        over = (
            interval(100 * nearest["value"], (100 * nearest["low"], 100 * nearest["high"]), "+.1f") if nearest else "-"
        )
        kept = interval(e["retained"], e["retained_ci"], ".2f")
        gain = interval(e["gain"], e["gain_ci"], "+.1f")
        lines.append(
            f"| {e['target']} | {e['adapter'].partition('@')[0]} | {own['score']:.1f} | {gain} | {kept} | "
            f"{over} | {e['verdict']} |"
        )
    return lines


def forced(alone: dict[str, dict[str, float]]) -> list[str]:
    """Accuracy where every step is forced."""
    lines = ["| model | answer right % | single step right % |", "|---|---|---|"]
    return lines + [
        f"| {name} | {100 * found['answer']:.0f} | {100 * found['step']:.1f} |" for name, found in alone.items()
    ]


def costs(done: dict[str, dict[str, Any]]) -> list[str]:
    total = [sum(step[key] for step in done.values()) for key in ("seconds", "cpu_seconds")]
    lines = ["| step | seconds | CPU seconds |", "|---|---|---|"]
    lines += [f"| {name} | {step['seconds']:.0f} | {step['cpu_seconds']:.0f} |" for name, step in done.items()]
    return [*lines, f"| all | {total[0]:.0f} | {total[1]:.0f} |"]
