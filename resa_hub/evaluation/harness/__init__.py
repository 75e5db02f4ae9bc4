"""Evaluations whose samples other tools draw: lm-eval, inspect, lighteval."""
