"""npm's own Socket.IO client, installed outside the repository."""

import shutil
import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "node"
INSTALL_DEADLINE = 120


def install_client(folder: Path) -> str | None:
    """Put the scripts of tests/node and the client that they import into `folder`. Says why if that is impossible."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    for source in SCRIPTS.iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    try:
        subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=INSTALL_DEADLINE)
    except (subprocess.SubprocessError, OSError) as error:
        return f"npm could not install the client: {error}"
    return None
