"""Where things lie: the YAML folders of the lab, the user's cache and the user's state."""

from __future__ import annotations

from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent
# A wheel carries the YAML folders inside the package; in the repository they lie beside it.
CONFIG_ROOT = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent
CONF = CONFIG_ROOT / "conf"


def cache(name: str) -> Path:
    """The per-user cache folder of one kind of thing, such as `data/mnist`; it need not exist."""
    return Path(platformdirs.user_cache_dir("vae_lab", appauthor=False)) / name


def state(name: str) -> Path:
    """The per-user folder of one kind of thing not to be lost, such as `journal`; it need not exist."""
    return Path(platformdirs.user_state_dir("vae_lab", appauthor=False)) / name
