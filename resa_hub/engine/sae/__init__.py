"""Sparse autoencoders: training on SAELens with a sparse step, quality, files."""
