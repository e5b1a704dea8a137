"""Programs from npm, installed outside the repository."""

import shutil
import subprocess
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
# With npm's own Socket.IO client.
SCRIPTS = TESTS / "node"
VALIDATORS = TESTS / "validators"
INSTALL_DEADLINE = 120


def install(source: Path, folder: Path) -> str | None:
    """Put the scripts of `source` and what they import into `folder`. Says why if that is impossible."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    for file in source.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_DEADLINE)
    except (subprocess.SubprocessError, OSError) as error:
        return f"npm could not install what it needs: {error}"
    return None
