"""A method of extraction: the source's own LoRA, half as strong. Nothing is trained."""

from safetensors.torch import load_file

from resa_hub.adapter.layout import WEIGHTS
from resa_hub.engine.methods.context import ExtractionContext, MethodOutput


def run(context: ExtractionContext) -> MethodOutput:
    lora = context.inputs.source.adapter
    assert lora is not None
    state = load_file(lora.folder / WEIGHTS)
    halved = {name: value / 2 if ".lora_B." in name else value for name, value in state.items()}
    return MethodOutput(halved, None, {}, ("1+1=",), 0, {"share": 0.5})
