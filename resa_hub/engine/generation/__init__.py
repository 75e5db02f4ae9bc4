"""Text generation: one protocol, the transformers engine as the embedded default."""
