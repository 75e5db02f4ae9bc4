"""What an evaluation says, to be read: `data` is the structure, `observe` reads it off samples, `page`, `markdown` and
`plot` draw it. No torch here.
"""
