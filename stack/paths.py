"""Where things are."""

import os
import pathlib
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template.yaml"
OPENAPI = ROOT / "openapi.yaml"
SEED = ROOT / "stack" / "seed.sql"

LOCAL = ROOT / ".local"
LOGS = LOCAL / "logs"
TEST_LOGS = LOCAL / "test-logs"
PACKAGES = LOCAL / "packages"
ENV_FILE = LOCAL / "stack.env"
STATE_FILE = LOCAL / "state.json"
LOCK_FILE = LOCAL / "lock"
SESSION_SECRET_FILE = LOCAL / "nextauth-secret"

BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"


def new_folder() -> pathlib.Path:
    """A folder for what lives as long as one run."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="huntaze-stack-"))
    folder.chmod(0o755)  # PostgreSQL's own user has to get to its folder inside.
    return folder
