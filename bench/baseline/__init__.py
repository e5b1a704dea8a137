"""The same stack used the ordinary way, to compare with."""
