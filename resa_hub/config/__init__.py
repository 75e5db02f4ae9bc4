"""Names and settings: references, recipes, the registry. Imports `core` alone."""
