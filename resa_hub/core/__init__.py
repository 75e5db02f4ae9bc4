"""What every part may use: errors, strict data, files, tensors, progress, processes. Imports nothing of the package."""
