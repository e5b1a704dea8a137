"""`main.py invite`: prints a link by which somebody may make an account."""

from server.config.secret_files import read_signing_secret
from server.config.settings import Settings
from server.services.accounts.invites import Invites


def make_link(settings: Settings, url: str, life: float, email: str) -> str:
    """The page of the server at `url` with an invite, in the part of an address that no server gets to see."""
    token = Invites(read_signing_secret(settings)).issue(life, email)
    return f"{url.rstrip('/')}/#invite={token}"
