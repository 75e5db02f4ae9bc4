"""Accuracy of the committed weights on the test split: greedy and T=0.6 x 4 samples, 500 problems, 95% intervals over
problems.
"""

from resa_hub.config.refs import Repo
from resa_hub.data.snapshots import locate
from resa_hub.engine.generation.sampling import generate, uniforms
from resa_hub.engine.model.loading import Source, load, load_tokenizer
from resa_hub.engine.model.tokens import prompt
from resa_hub.evaluation.benchmarks.base import GradedCompletion
from resa_hub.evaluation.benchmarks.tiny_chain import TinyChain
from resa_hub.evaluation.statistics import Interval, average

MODELS = ("tiny-base", "tiny-math", "tiny-r1", "tiny-r1b", "tina-tiny")


def source(name: str) -> Source:
    if name == "tina-tiny":
        return Source(locate(Repo("resa-hub/tiny-r1")), locate(Repo("resa-hub/tina-tiny"), "adapter"))
    return Source(locate(Repo(f"resa-hub/{name}")))


def accuracy(name: str, temperature: float, samples: int, problems: int = 500) -> Interval:
    return average(answered(name, temperature, samples, problems))


def answered(name: str, temperature: float, samples: int, problems: int) -> list[list[int]]:
    """[problems][samples] of 0 and 1."""
    benchmark, files = TinyChain(), source(name)
    model, tokenizer = load(files), load_tokenizer(files.base)
    asked = benchmark.problems("test", problems)
    prompts = [prompt(tokenizer, None, p.question) for p in asked for _ in range(samples)]
    noise = uniforms(0, [(p.id, number) for p in asked for number in range(samples)], benchmark.new_tokens)
    table = [[0] * samples for _ in asked]
    for done in generate(model, prompts, noise, temperature=temperature, end_tokens={2}):
        for c in done:
            row, column = divmod(c.index, samples)
            text = str(tokenizer.decode(c.tokens, skip_special_tokens=True))
            table[row][column] = int(benchmark.grades([GradedCompletion(asked[row], text, c.finished)])[0].strict)
    return table


def main() -> None:
    print("| name | greedy % | T=0.6 % |\n|---|---|---|")
    for name in MODELS:
        cells = [accuracy(name, 0.0, 1), accuracy(name, 0.6, 4)]
        print(
            f"| {name} | "
            + " | ".join(f"{100 * c.value:.1f} [{100 * c.low:.1f}, {100 * c.high:.1f}]" for c in cells)
            + " |",
            flush=True,
        )
