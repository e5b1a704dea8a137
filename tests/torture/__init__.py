"""The torture runs: people chat while everything under them is killed, and a checker judges what they were promised."""
