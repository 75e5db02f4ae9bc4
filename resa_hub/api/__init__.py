"""The functions of `import resa_hub`: the command line's verbs, with its options as keyword arguments."""
