"""Sampling eight arms on tiny-r1, 500 problems x 4: one engine load with both ways of running adapters, beside PEFT on
a freshly loaded model an arm.

CPU seconds of this process on one thread, so that a busy machine tells little; the peers run in turn, twice, and the
least is taken.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from resa_hub.config.refs import Repo
from resa_hub.data.snapshots import locate
from resa_hub.engine.generation.base import EngineConfig, Job, Sampling, open_engine
from resa_hub.engine.model.controls import negated, random_like
from resa_hub.engine.model.loading import load_tokenizer
from resa_hub.engine.model.tokens import prompt
from resa_hub.evaluation.benchmarks.tiny_chain import TinyChain

PROBLEMS, SAMPLES, REPEATS = 500, 4, 2
HOW = Sampling(0.6, 1.0, 72, 0)


def main() -> None:
    torch.set_num_threads(1)
    base, source, tiny = (
        locate(Repo("resa-hub/tiny-r1")),
        locate(Repo("resa-hub/tina-tiny"), "adapter").folder,
        TinyChain(),
    )
    tokenizer = load_tokenizer(base)
    with tempfile.TemporaryDirectory() as home:
        arms: dict[str, Path | None] = {"base": None, "source": source, "negated": Path(home) / "negated"}
        negated(source, Path(home) / "negated")
        for seed in range(1, 6):
            arms[f"random-{seed}"] = Path(home) / f"random-{seed}"
            random_like(source, seed, Path(home) / f"random-{seed}")
        for problems in (PROBLEMS, 8):
            asked = [(p.id, prompt(tokenizer, None, p.question)) for p in tiny.problems("test", problems)]
            jobs = [Job(arm, (name, n), ids) for arm in arms for name, ids in asked for n in range(SAMPLES)]

            def one_load(way: str, jobs: list[Job] = jobs) -> int:
                return sum(
                    len(batch)
                    for batch in open_engine("transformers", base, arms, EngineConfig(100, lora=way)).run(jobs, HOW)
                )

            def load_an_arm(jobs: list[Job] = jobs) -> int:
                ways = [
                    (arm, open_engine("transformers", base, {arm: folder}, EngineConfig(100, lora="beside")))
                    for arm, folder in arms.items()
                ]
                return sum(
                    len(batch)
                    for arm, engine in ways
                    for batch in engine.run([job for job in jobs if job.arm == arm], HOW)
                )

            peers: dict[str, Callable[[], int]] = {
                "PEFT, a load an arm": load_an_arm,
                "one load, beside": lambda run=one_load: run("beside"),
                "one load, merged": lambda run=one_load: run("merged"),
                "one load, measured": lambda run=one_load: run("auto"),
            }
            best = dict.fromkeys(peers, float("inf"))
            for _ in range(REPEATS):
                for name, run in peers.items():
                    began = time.process_time()
                    assert run() == len(jobs)
                    best[name] = min(best[name], time.process_time() - began)
            print(f"  {len(arms)} arms, {problems} problems x {SAMPLES} samples")
            for name, seconds in best.items():
                print(
                    f"    {name:22} {seconds:6.1f} s of CPU, {best['PEFT, a load an arm'] / seconds:5.2f} x "
                    f"PEFT ({len(jobs) / seconds:,.0f} samples/s)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
