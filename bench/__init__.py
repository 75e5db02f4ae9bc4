"""Measurements that anyone can repeat: ratios from one run against a named peer on the same work."""
