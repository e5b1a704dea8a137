"""The tests: they talk to a running server through what it promises."""
