"""What an extraction keeps on the way: the teacher's states within bounds, rollouts by content, states that cost little
time.
"""

import json
from pathlib import Path

import pytest
import torch

from resa_hub.config.recipe import Rollouts
from resa_hub.core.flops import Sizes, tuning_flops
from resa_hub.core.progress import Progress
from resa_hub.engine.checkpoint import Checkpoint
from resa_hub.engine.cost_tracker import CostTracker, sizes
from resa_hub.engine.generation.rollouts import RolloutFile, RolloutRequest, rollouts
from resa_hub.engine.generation.sampling import Completion
from resa_hub.engine.methods.teacher_states import TeacherStateCache, TrainingExample
from resa_hub.engine.model.loading import load_base
from resa_hub.engine.model.tokens import Batch
from tests.helpers.models import tiny

ROWS, POSITIONS, WIDTH = 2, 8, 16
SIZE = ROWS * POSITIONS * (2 * WIDTH + 1) * 4
COUNT = 6


class Maker:
    """Examples that follow from the batch, and how often they were made."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, batch: Batch) -> TrainingExample:
        number = int(batch.ids[0, 0])
        self.made.append(number)
        values = torch.randn(2, ROWS, POSITIONS, WIDTH, generator=torch.Generator().manual_seed(number))
        return TrainingExample(batch, values[0], torch.full((ROWS, POSITIONS), 0.5), values[1])


BATCHES = [Batch(torch.full((ROWS, POSITIONS), n), torch.ones(ROWS, POSITIONS, dtype=torch.bool)) for n in range(COUNT)]


@pytest.mark.parametrize(
    ("memory", "on_disk", "times"),
    [
        (COUNT * SIZE, False, COUNT),
        (2 * SIZE, True, COUNT),
        (0, True, COUNT),
        (2 * SIZE, False, 2 + 3 * (COUNT - 2)),
        (0, False, 3 * COUNT),
    ],
    ids=["memory", "memory and disk", "disk", "memory, then anew", "always anew"],
)
def test_examples_are_the_same_wherever_they_are_kept(tmp_path: Path, memory: int, on_disk: bool, times: int) -> None:
    make, plain = Maker(), Maker()
    folder = tmp_path / "examples" if on_disk else None
    examples = TeacherStateCache(BATCHES, make, memory, folder)
    for _ in range(3):
        for number, batch in enumerate(BATCHES):
            found, wanted = examples[number], plain(batch)
            assert found.batch is batch and found.teacher is not None and wanted.teacher is not None
            assert torch.equal(found.teacher, wanted.teacher)
            assert found.weight is not None and wanted.weight is not None and torch.equal(found.weight, wanted.weight)
            assert found.start is not None and wanted.start is not None and torch.equal(found.start, wanted.start)
    assert len(examples) == COUNT and len(make.made) == times
    if folder:
        assert len(list(folder.iterdir())) == COUNT - memory // SIZE
        examples.close()
        assert not folder.exists()


def test_a_disk_that_fills_up_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr("resa_hub.engine.methods.teacher_states.save_file", full)
    make = Maker()
    examples = TeacherStateCache(BATCHES, make, 0, tmp_path / "examples")
    assert torch.equal(examples[3].teacher, examples[3].teacher) and make.made == [3, 3]  # pyright: ignore


def test_what_a_killed_run_left_of_examples_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "0.safetensors").write_bytes(b"cut")
    assert examples_of(tmp_path)[0].teacher.shape == (ROWS, POSITIONS, WIDTH)  # pyright: ignore


def examples_of(folder: Path) -> TeacherStateCache:
    return TeacherStateCache(BATCHES, Maker(), 0, folder)


ONE, TWO = Completion(0, [5, 6, 7], True), Completion(1, [], False)


def test_rollouts_are_read_back_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    file = RolloutFile(tmp_path, {"revision": "a"})
    assert file.read(2) == {} and file.path is not None
    file.append([ONE])
    with file.path.open("ab") as raw:
        raw.write(b"[[1,[3,4")  # killed here
    assert file.read(2) == {0: ONE}
    file.append([TWO])
    assert file.read(2) == {0: ONE, 1: TWO}
    assert RolloutFile(tmp_path, {"revision": "b"}).read(2) == {}


@pytest.mark.parametrize(
    "line",
    [
        "[[7,[1],true]]",
        '[[0,["1"],true]]',
        "[[0,[1],1]]",
        "[[0,[1]]]",
        "{}",
        "null",
        "[[-1,[1],true]]",
        '[["0",[1],true]]',
    ],
)
def test_a_line_that_is_no_batch_is_left_out(tmp_path: Path, line: str) -> None:
    file = RolloutFile(tmp_path, {})
    assert file.path is not None
    file.path.write_text(line + "\n" + json.dumps([list(ONE)]) + "\n")
    assert file.read(2) == {0: ONE}


def test_rollouts_are_generated_once_and_a_lost_batch_alone_again(tmp_path: Path) -> None:
    model, prompts = load_base(tiny("tiny-r1")), [[1, 8 + i % 5] for i in range(300)]
    generated: list[int] = []

    questions = [str(i) for i in range(300)]

    def get(folder: Path | None, seed: int = 0) -> list[Completion]:
        request = RolloutRequest(prompts, questions, Rollouts(new_tokens=8), seed, end_tokens={2}, revision="r")
        progress = Progress(quiet=True)
        return rollouts(model, request, folder, progress, "target", lambda batch: generated.append(len(batch)))

    plain = get(None)
    assert get(tmp_path) == plain and get(tmp_path) == plain and generated == [256, 44] * 2
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    assert get(tmp_path) == plain and generated[4:] == [44]
    assert get(tmp_path, seed=1) != plain and len(list(tmp_path.glob("*.jsonl"))) == 2


def test_costs_go_on_where_a_killed_run_stood(tmp_path: Path) -> None:
    first = CostTracker(tmp_path, every=0)
    with first.stage("total"), first.stage("adapter"):
        first.add("adapter", 100, 5e9)
        first.save("adapter", {"step": 1})
        first.add("adapter", 50, 1e9)  # lost with the kill
        second = CostTracker(tmp_path)
    assert (second.costs["adapter"].tokens, second.costs["total"].tokens, second.costs["adapter"].operations) == (
        100,
        100,
        5e9,
    )
    before = second.costs["adapter"].seconds
    with second.stage("adapter"):
        held = torch.ones(1 << 24)  # 64 MB
    assert second.costs["adapter"].seconds > before > 0 and second.costs["adapter"].memory > held.nbytes
    assert second.costs["total"].seconds < second.costs["adapter"].seconds  # that stage was not open


def test_operations_follow_the_stated_formula() -> None:
    model = load_base(tiny("tiny-r1"))
    size = sizes(model)
    config = model.config
    mlp, attention = 3 * config.hidden_size * config.intermediate_size, 4 * config.hidden_size**2
    assert len(size.layers) == config.num_hidden_layers and size.head == config.vocab_size * config.hidden_size
    assert 0 <= size.layers[0] - mlp - attention <= 6 * config.hidden_size  # norms and biases
    assert size.up_to(1) == sum(size.layers[:2]) and size.all == sum(size.layers)
    assert tuning_flops(*Sizes((10,), 3)[1:], head=0) == 12 and tuning_flops(10, 3) == 4 * 13 + 6  # pyright: ignore[reportArgumentType]


def test_a_state_that_is_slow_to_write_is_written_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("resa_hub.engine.checkpoint.time.monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path, every=30)
    monkeypatch.setattr("resa_hub.engine.checkpoint.os.fsync", lambda _: now.__setitem__(0, now[0] + 10))
    assert not checkpoint.due()
    now[0] = 30
    assert checkpoint.due()
    checkpoint.save("adapter", {"step": 1})
    now[0] = 40 + 199
    assert not checkpoint.due()
    now[0] = 40 + 200
    assert checkpoint.due()
    assert Checkpoint(None, every=0).due() is False
