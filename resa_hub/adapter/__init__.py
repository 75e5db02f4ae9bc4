"""The artifact: manifest, safe files, store, fit and card. Nothing here imports torch."""
