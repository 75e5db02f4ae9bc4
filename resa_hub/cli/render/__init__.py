"""How results of the library are shown on a terminal."""
