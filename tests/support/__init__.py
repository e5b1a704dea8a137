"""Helpers of the tests: a server process, people, devices and raw connections."""
