"""The command line: one file per verb or noun; each parses, calls one library function and renders."""
