"""The pages of docs/reference/, a module each."""
