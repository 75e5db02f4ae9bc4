"""The tools that `eval --harness` runs: what each is told for an arm and where it logs; one line a tool in `TOOLS`.

Written for lm-eval 0.4.13 and inspect 0.3.285.
"""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ...adapter.fit import rank_for
from ...adapter.layout import CONFIG, WEIGHTS
from ...core.errors import MissingExtra, NotFound, Usage, did_you_mean
from ...core.files import read_json
from ...data.snapshots import Files
from ..arms import Arm
from ..sampling.jobs import Engines

BATCH = "8"
"""Rows at once of lm-eval's transformers backend; its own default is 1."""


class HarnessConfig(NamedTuple):
    """What every arm is asked; whatever is not said here is the task's own."""

    tasks: tuple[str, ...]
    """Names that the tool knows, or files: lm-eval's .yaml, inspect's .py or .py@task."""
    limit: int | None = None
    """Problems of each task."""
    samples: int = 4
    """inspect's epochs; lm-eval gives one sample a problem."""
    seed: int = 0
    new_tokens: int | None = None
    engines: Engines = Engines()


def lm_eval(asked: HarnessConfig, base: Files, adapter: Path | None, rank: int | None, folder: Path) -> list[str]:
    """The arguments behind `python -m`. adapter: a PEFT folder; rank: what vLLM takes for it, since lm-eval's default
    of 16 refuses larger ones.
    """
    engines = asked.engines
    told: dict[str, Any] = {"pretrained": str(base.folder), "dtype": engines.dtype}
    if engines.name == "vllm":
        told |= {"tensor_parallel_size": engines.tensor_parallel}
        told |= {"lora_local_path": str(adapter), "max_lora_rank": rank, "enable_lora": True} if adapter else {}
    elif adapter:
        told |= {"peft": str(adapter)}
    command = [
        "lm_eval",
        "run",
        "--model",
        "vllm" if engines.name == "vllm" else "hf",
        "--model_args",
        json.dumps(told),
    ]
    command += [
        "--tasks",
        ",".join(asked.tasks),
        "--batch_size",
        "auto" if engines.name == "vllm" else BATCH,
        "--seed",
        str(asked.seed),
    ]
    command += ["--log_samples", "--output_path", str(folder)]
    command += ["--limit", str(asked.limit)] if asked.limit else []
    command += ["--gen_kwargs", f"max_gen_toks={asked.new_tokens}"] if asked.new_tokens else []
    return command + (["--apply_chat_template"] if _has_template(base) else [])


def inspect(asked: HarnessConfig, base: Files, adapter: Path | None, rank: int | None, folder: Path) -> list[str]:
    """As `lm_eval`. transformers loads a PEFT folder that names its base by path: see `with_base`."""
    paths = {"model_path": str(folder / "adapter" if adapter else base.folder), "tokenizer_path": str(base.folder)}
    if "," in "".join(paths.values()):
        raise Usage("inspect splits paths at commas", "choose a --workspace and a folder of models without one")
    command = ["inspect_ai", "eval", *asked.tasks, "--model", f"hf/{base.id.rpartition('/')[2]}"]
    for name, value in {**paths, "dtype": asked.engines.dtype}.items():
        command += ["-M", f"{name}={value}"]
    command += [
        "--epochs",
        str(asked.samples),
        "--seed",
        str(asked.seed),
        "--log-dir",
        str(folder),
        "--log-format",
        "json",
        "--display",
        "plain",
    ]
    command += ["--limit", str(asked.limit)] if asked.limit else []
    return command + (["--max-tokens", str(asked.new_tokens)] if asked.new_tokens else [])


class Tool(NamedTuple):
    package: str
    module: str
    command: Callable[[HarnessConfig, Files, Path | None, int | None, Path], list[str]]
    logs: str
    """Glob of its per-sample results; the task stands between the first `_` and the last."""
    engines: tuple[str, ...]
    note: str


TOOLS = {
    "lm-eval": Tool(
        "lm-eval",
        "lm_eval",
        lm_eval,
        "**/samples_*.jsonl",
        ("transformers", "vllm"),
        "lm-eval: one sample a problem, drawn (or greedy) as its task says",
    ),
    "inspect": Tool(
        "inspect-ai",
        "inspect_ai",
        inspect,
        "*_*.json",
        ("transformers",),
        "inspect: sampled at the model's own settings where its task names none",
    ),
}


def named(harness: str, asked: HarnessConfig) -> Tool:
    """Raises `Usage` for a name that is none or where no task is asked, `MissingExtra` where it is not installed."""
    if harness not in TOOLS:
        raise Usage(f"no harness is called {harness!r}", did_you_mean(harness, list(TOOLS)))
    if not find_spec(TOOLS[harness].module):
        raise MissingExtra(f"{harness} is not installed", f"pip install 'resa-hub[{harness}]'")
    if not asked.tasks:
        raise Usage(
            f"no task of {harness} is named", "--tasks gsm8k" if harness == "lm-eval" else "--tasks file.py@task"
        )
    return TOOLS[harness]


def arguments(harness: str, asked: HarnessConfig, arm: Arm, folder: Path) -> list[str]:
    """The arguments behind `python -m` for an arm that logs to `folder`."""
    whole = arm.origin or arm.folder  # a control has the rank of its adapter, and may not be made yet
    rank = rank_for([whole]) if whole and asked.engines.name == "vllm" else None
    return TOOLS[harness].command(asked, arm.base, arm.folder, rank, folder)


def logged(harness: str, folder: Path) -> dict[str, Path]:
    """Task -> its per-sample results."""
    found = sorted(folder.glob(TOOLS[harness].logs))
    return {path.name.partition("_")[2].rpartition("_")[0]: path for path in found}


def with_base(adapter: Path, base: Files, folder: Path) -> None:
    """The adapter's folder, its config naming the base by path: that is how transformers finds it."""
    folder.mkdir()
    (folder / CONFIG).write_text(
        json.dumps(
            read_json(adapter / CONFIG) | {"base_model_name_or_path": str(base.folder.resolve()), "revision": None}
        )
    )
    (folder / WEIGHTS).symlink_to((adapter / WEIGHTS).resolve())


def absolute(task: str) -> str:
    """The tools look for files from the folder they are started in; here that is the caller's own. Raises
    `NotFound`.
    """
    path = Path(task.partition("@")[0]).expanduser()
    if path.suffix in (".py", ".yaml") and not path.is_file():
        raise NotFound(f"the task {path} does not exist", "check the path")
    return task.replace(task.partition("@")[0], str(path.resolve()), 1) if path.suffix in (".py", ".yaml") else task


def file_of(task: str) -> Path | None:
    """None: the tool knows the task by name."""
    path = Path(task.partition("@")[0])
    return path if path.suffix in (".py", ".yaml") and path.is_file() else None


def _has_template(base: Files) -> bool:
    return (base.folder / "chat_template.jinja").is_file() or bool(
        (read_json((base.folder / "tokenizer_config.json").resolve())).get("chat_template")
    )
