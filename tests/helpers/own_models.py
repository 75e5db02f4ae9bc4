"""Models as a person has them: folders with a base, a LoRA on it and the whole model that both make, and their data."""

import json
import shutil
from pathlib import Path

from resa_hub.data.tiny import WEIGHTS, task

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def own_models(folder: Path) -> Path:
    """base/, lora/, whole/ and sums.jsonl: tiny-r1, tina-tiny, both merged, and 300 problems."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base, lora, whole = folder / "base", folder / "lora", folder / "whole"
    shutil.copytree(WEIGHTS / "tiny-r1", base)
    shutil.copytree(WEIGHTS / "tina-tiny", lora)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(lora))
    model.merge_and_unload().save_pretrained(whole)  # pyright: ignore[reportCallIssue]
    for name in TOKENIZER:
        shutil.copy(base / name, whole / name)
    problems = task.problems(300, "train", seed=5)
    rows = [json.dumps({"question": problem.text, "answer": problem.answer}) for problem in problems]
    (folder / "sums.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


def names_base(lora: Path, base: str | None, revision: str | None = None) -> None:
    """Write into a LoRA's config which base it is made on."""
    path = lora / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"base_model_name_or_path": base, "revision": revision}))
