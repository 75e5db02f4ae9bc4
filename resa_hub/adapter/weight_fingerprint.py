"""A weight fingerprint (sketch) of a base model: a fixed sample of the entries of its decoder matrices.

It travels in the manifest. Its correlation with the same entries of another model says whether the two share a weight
basis, that is, whether one descends from the other: independent or permuted weights correlate at about 0.
"""

import base64
import re
import zlib
from pathlib import Path
from typing import Any

from ..core.errors import Integrity
from ..core.tensors import TensorInfo, read_tensor, safetensors_header
from .manifest import Base, Sketch

ENTRIES = 4_096
"""Entries in a fingerprint, spread evenly over the matrices."""
IN_LAYER = re.compile(r"(?:^|\.)\d+\..*weight$")
"""Weights of a list of modules, whatever the architecture calls it: `layers.N`, `h.N`, `blocks.N`."""
SHAPE_KEYS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)


def decoder_matrices(weights: list[Path]) -> dict[str, tuple[Path, TensorInfo]]:
    """name -> (file, tensor) of every matrix of the decoder layers, sorted.

    Embeddings are left out: models that are not kin may share them.
    """
    matrices = {}
    for path in weights:
        for name, info in safetensors_header(path.resolve()).items():
            if len(info.shape) == 2 and IN_LAYER.search(name):
                matrices[name] = (path.resolve(), info)
    return dict(sorted(matrices.items()))


def sample_entries(matrices: dict[str, tuple[Path, TensorInfo]]) -> Any:
    """float32 [tensors, n]: n = ENTRIES / tensors entries of each matrix, at places that its name and shape decide."""
    import numpy

    count = max(1, ENTRIES // max(1, len(matrices)))
    rows = []
    for name, (path, info) in matrices.items():
        random = numpy.random.Generator(numpy.random.PCG64(zlib.crc32(name.encode())))
        places = random.integers(0, info.shape[0] * info.shape[1], count)
        rows.append(numpy.asarray(read_tensor(path, info).reshape(-1)[places], numpy.float32))
    return numpy.stack(rows) if rows else numpy.zeros((0, 0), numpy.float32)


def sketch(weights: list[Path]) -> Sketch:
    """The fingerprint of the weights in these safetensors files."""
    values = sample_entries(decoder_matrices(weights))
    scaled = values / _scale(values)
    return Sketch(tensors=len(values), values=base64.b64encode(scaled.astype("<f2").tobytes()).decode())


def correlation(known: Sketch, weights: list[Path]) -> float:
    """Pearson correlation of a fingerprint with the same entries of other weights; 0 for other shapes.

    Each matrix is brought to unit scale first. Raises `Integrity` for a fingerprint that cannot be read.
    """
    import numpy

    values = sample_entries(decoder_matrices(weights))
    try:
        theirs = numpy.frombuffer(base64.b64decode(known.values, validate=True), "<f2").astype(numpy.float64)
    except ValueError:
        raise Integrity("the sketch of the base's weights is damaged", "pull the adapter again") from None
    ours = (values / _scale(values)).astype(numpy.float64).ravel()
    if ours.size != theirs.size or ours.size == 0:
        return 0.0
    return float(numpy.corrcoef(ours, theirs)[0, 1])


def _scale(values: Any) -> Any:
    """Root mean square of each row, [tensors, 1]."""
    import numpy

    return numpy.sqrt((values**2).mean(axis=1, keepdims=True)) + 1e-12 if values.size else 1.0


def shapes(config: dict[str, Any]) -> dict[str, Any]:
    """The entries of a config.json that decide whether an adapter's matrices fit."""
    return {key: config[key] for key in SHAPE_KEYS if config.get(key) is not None}


def describe_base(files: Any) -> Base:
    """The manifest's record of a base model (`data.snapshots.Files`)."""
    return Base(
        id=files.id,
        revision=files.revision,
        weights=files.weights_digest,
        config=files.digest_of("config.json"),
        tokenizer=files.digest_of("tokenizer.json", "tokenizer.model"),
        chat_template=files.digest_of("chat_template.jinja", "tokenizer_config.json"),
        shapes=shapes(files.config),
        sketch=sketch(files.weights),
    )
