"""A plugin whose row has a field that the table does not know."""

METHODS = {"lonely": {"runs": "nothing"}}
