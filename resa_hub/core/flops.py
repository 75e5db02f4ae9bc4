"""Floating-point operations and parameters of a training step, from shapes alone.

Plans and the accounts of runs use these same formulas.

Operations follow Kaplan et al. 2020 (arXiv 2001.08361, section 2.1): 2 N a token forward, 4 N backward, N the
parameters of the layers that run, embeddings and the attention's products with its own states left out. Of the backward
pass 2 N is the gradient of the states and 2 N that of the weights: where the weights are frozen, as under a LoRA, only
the first is made.
"""

from typing import Any, NamedTuple


class Sizes(NamedTuple):
    """Parameters that do work on each token."""

    layers: tuple[int, ...]
    head: int

    @property
    def all(self) -> int:
        return sum(self.layers)

    def up_to(self, layer: int) -> int:
        """Of layers 0 .. layer."""
        return sum(self.layers[: layer + 1])


def tuning_flops(layers: int, head: int) -> float:
    """Operations a token of one step of guided tuning, or of measuring what features do to the logits.

    The student's forward pass and the gradient of its states through `layers` parameters and its head, and the
    teacher's head on its final state.
    """
    return 4.0 * (layers + head) + 2.0 * head


def supervised_flops(layers: int, head: int) -> float:
    """Operations a token of one step on the texts themselves: forward and gradient of the states, no teacher."""
    return 4.0 * (layers + head)


def sae_training_flops(width: int, latents: int, k: int) -> float:
    """Operations a token of one step of a sparse TopK SAE.

    Only the encoder's product is dense; decoder and gradients touch k latents.
    """
    return 2.0 * width * latents + 2.0 * 4 * width * k


SELECTION_TOKENS = 16_384
"""Of rollouts by which features are selected, where their effect on the logits counts; at least one batch is taken."""
SELECTION_STEPS = 8
"""In how many steps selection `logits` chooses features: each sees the logits with those chosen before in place."""


def comparison_flops(layers: int) -> float:
    """Operations a token of the states of source and target, both from `layers` parameters."""
    return 4.0 * layers


class Shapes(NamedTuple):
    """The sizes of a decoder-only model as its config.json gives them."""

    width: int
    depth: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Shapes | None":
        """None where the config does not name them in the way most do."""
        try:
            width, heads = config["hidden_size"], config["num_attention_heads"]
            return cls(
                width=width,
                depth=config["num_hidden_layers"],
                inner=config["intermediate_size"],
                heads=heads,
                kv_heads=config.get("num_key_value_heads") or heads,
                head_size=config.get("head_dim") or width // heads,
                vocabulary=config["vocab_size"],
                tied=bool(config.get("tie_word_embeddings", False)),
            )
        except (KeyError, TypeError):
            return None

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of the linear modules of a layer."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "q_proj": (self.width, queries),
            "k_proj": (self.width, keys),
            "v_proj": (self.width, keys),
            "o_proj": (queries, self.width),
            "gate_proj": (self.width, self.inner),
            "up_proj": (self.width, self.inner),
            "down_proj": (self.inner, self.width),
        }

    @property
    def sizes(self) -> Sizes:
        """Biases and norms, a thousandth of the whole, left out."""
        layer = sum(inputs * outputs for inputs, outputs in self.matrices.values())
        return Sizes(layers=(layer,) * self.depth, head=self.width * self.vocabulary)

    @property
    def parameters(self) -> int:
        """All of them, embeddings once where head and embeddings are tied."""
        return self.sizes.all + self.sizes.head * (1 if self.tied else 2)

    def lora(self, modules: tuple[str, ...], rank: int, layers: int) -> int:
        """Parameters of a LoRA on this many layers; `all-linear` means every module, those of other names are left
        out.
        """
        sizes = self.matrices
        wanted = tuple(sizes) if "all-linear" in modules else modules
        return layers * sum(rank * sum(sizes[module]) for module in wanted if module in sizes)
