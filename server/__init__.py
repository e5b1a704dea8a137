"""The server without its transports. Defines the version, which is stated nowhere else."""

__version__ = "0.1.0"
