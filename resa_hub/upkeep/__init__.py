"""What lies on this machine, and whether all is in order: for `doctor`, `cache` and `gc`."""
