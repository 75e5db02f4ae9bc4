"""The tools that `eval --harness` runs: the arguments each is given for an arm, and where it logs; one row a tool in
`TOOLS`.

Written for lm-eval 0.4.13 and inspect 0.3.285.
"""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ...adapter.fit import rank_for
from ...adapter.layout import CONFIG, WEIGHTS
from ...core.errors import NotFound, Usage, did_you_mean
from ...core.files import read_json
from ...core.install import missing
from ...data.snapshots import Files
from ..arms import Arm
from ..question import MOST_PROBLEMS, MOST_SAMPLES, MOST_TOKENS
from ..sampling.engines import Engines

BATCH_SIZE = "8"
"""Of lm-eval's transformers backend; its own default is 1."""

TASK_FILES = (".py", ".yaml")


class HarnessConfig(NamedTuple):
    """How every arm is run; whatever is not set here is the task's own."""

    tasks: tuple[str, ...]
    """Names that the tool knows, or files: lm-eval's .yaml, inspect's .py or .py@task."""
    limit: int | None = None
    """Problems of each task."""
    samples: int = 4
    """inspect's epochs; lm-eval gives one sample a problem."""
    seed: int = 0
    new_tokens: int | None = None
    engines: Engines = Engines()

    def check(self, harness: str) -> None:
        """Raise `Usage` for counts out of their range."""
        counts = (
            ("--problems", self.limit, MOST_PROBLEMS),
            ("--samples", self.samples, MOST_SAMPLES),
            ("--new-tokens", self.new_tokens, MOST_TOKENS),
        )
        for option, value, most in counts:
            if value is not None and not 1 <= value <= most:
                raise Usage(f"{option} is {value:,}: it must be between 1 and {most:,}", f"{option} 4")


def lm_eval(config: HarnessConfig, base: Files, adapter: Path | None, rank: int | None, folder: Path) -> list[str]:
    """The arguments behind `python -m`. adapter: a PEFT folder; rank: what vLLM takes for it, since lm-eval's default
    of 16 refuses larger ones.
    """
    engines, vllm = config.engines, config.engines.name == "vllm"
    model: dict[str, Any] = {"pretrained": str(base.folder), "dtype": engines.dtype}
    if vllm:
        model |= {"tensor_parallel_size": engines.tensor_parallel}
    if vllm and adapter:
        model |= {"lora_local_path": str(adapter), "max_lora_rank": rank, "enable_lora": True}
    elif adapter:
        model |= {"peft": str(adapter)}
    command = ["lm_eval", "run"]
    command += ["--model", "vllm" if vllm else "hf"]
    command += ["--model_args", json.dumps(model)]
    command += ["--tasks", ",".join(config.tasks)]
    command += ["--batch_size", "auto" if vllm else BATCH_SIZE]
    command += ["--seed", str(config.seed)]
    command += ["--log_samples", "--output_path", str(folder)]
    command += ["--limit", str(config.limit)] if config.limit else []
    command += ["--gen_kwargs", f"max_gen_toks={config.new_tokens}"] if config.new_tokens else []
    return command + (["--apply_chat_template"] if _has_template(base) else [])


def inspect(config: HarnessConfig, base: Files, adapter: Path | None, rank: int | None, folder: Path) -> list[str]:
    """As `lm_eval`. transformers loads a PEFT folder that names its base by path: see `with_base`."""
    paths = {"model_path": str(folder / "adapter" if adapter else base.folder), "tokenizer_path": str(base.folder)}
    if "," in "".join(paths.values()):
        raise Usage("inspect splits paths at commas", "choose a --workspace and a folder of models without one")
    command = ["inspect_ai", "eval", *config.tasks, "--model", f"hf/{base.id.rpartition('/')[2]}"]
    for name, value in {**paths, "dtype": config.engines.dtype}.items():
        command += ["-M", f"{name}={value}"]
    command += ["--epochs", str(config.samples)]
    command += ["--seed", str(config.seed)]
    command += ["--log-dir", str(folder), "--log-format", "json"]
    command += ["--display", "plain"]
    command += ["--limit", str(config.limit)] if config.limit else []
    return command + (["--max-tokens", str(config.new_tokens)] if config.new_tokens else [])


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
        package="lm-eval",
        module="lm_eval",
        command=lm_eval,
        logs="**/samples_*.jsonl",
        engines=("transformers", "vllm"),
        note="lm-eval: one sample a problem, drawn (or greedy) as its task says",
    ),
    "inspect": Tool(
        package="inspect-ai",
        module="inspect_ai",
        command=inspect,
        logs="*_*.json",
        engines=("transformers",),
        note="inspect: sampled at the model's own settings where its task names none",
    ),
}


def named(harness: str, config: HarnessConfig) -> Tool:
    """Raises `Usage` for a name that is none or where no task is named, `MissingExtra` where it is not installed."""
    if harness not in TOOLS:
        raise Usage(f"no harness is called {harness!r}", did_you_mean(harness, list(TOOLS)))
    if not find_spec(TOOLS[harness].module):
        raise missing(f"{harness} is not installed", harness)
    if not config.tasks:
        example = "--tasks gsm8k" if harness == "lm-eval" else "--tasks file.py@task"
        raise Usage(f"no task of {harness} is named", example)
    return TOOLS[harness]


def arguments(harness: str, config: HarnessConfig, arm: Arm, folder: Path) -> list[str]:
    """The arguments behind `python -m` for an arm that logs to `folder`."""
    sized = arm.origin or arm.folder  # a control has the rank of its adapter, and may not be made yet
    rank = rank_for([sized]) if sized and config.engines.name == "vllm" else None
    return TOOLS[harness].command(config, arm.base, arm.folder, rank, folder)


def logged(harness: str, folder: Path) -> dict[str, Path]:
    """Task -> its per-sample results."""
    paths = sorted(folder.glob(TOOLS[harness].logs))
    return {path.name.partition("_")[2].rpartition("_")[0]: path for path in paths}


def with_base(adapter: Path, base: Files, folder: Path) -> None:
    """Make `folder`: the adapter, its config naming the base by path, which is how transformers finds it."""
    folder.mkdir()
    own_base = {"base_model_name_or_path": str(base.folder.resolve()), "revision": None}
    (folder / CONFIG).write_text(json.dumps(read_json(adapter / CONFIG) | own_base))
    (folder / WEIGHTS).symlink_to((adapter / WEIGHTS).resolve())


def absolute(task: str) -> str:
    """The task with a whole path where it is a file: a tool is started in another folder. Raises `NotFound`."""
    name, at, function = task.partition("@")
    path = Path(name).expanduser()
    if path.suffix not in TASK_FILES:
        return task
    if not path.is_file():
        raise NotFound(f"the task {path} does not exist", "check the path")
    return f"{path.resolve()}{at}{function}"


def file_of(task: str) -> Path | None:
    """None: the tool knows the task by name."""
    path = Path(task.partition("@")[0])
    return path if path.suffix in TASK_FILES and path.is_file() else None


def _has_template(base: Files) -> bool:
    if (base.folder / "chat_template.jinja").is_file():
        return True
    return bool(read_json((base.folder / "tokenizer_config.json").resolve()).get("chat_template"))
