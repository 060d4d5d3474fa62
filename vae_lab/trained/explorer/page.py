"""The explorer's page as HTML, with a content policy that lets nothing run but its own script."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

from vae_lab.report.template import filled
from vae_lab.trained.explorer.contents import Contents

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = (  # in this order they become one script
    *("elements", "network", "weights", "models", "pictures", "session"),
    *("stage", "sliders", "maps", "source", "main"),
)


def html(contents: Contents) -> str:
    """Returns a complete page that asks for nothing; every text that comes from a run is escaped."""
    script = "\n".join(['"use strict";', *(_text(f"{name}.js") for name in SCRIPTS)])
    style = _text("explorer.css")
    return filled(
        "explorer.html.jinja",
        {},
        "vae_lab.trained.explorer",
        page=contents,
        policy=Markup(policy(script, style)),
        style=Markup(style),
        script=Markup(script),
        contents=Markup(contents.data),
    )


def policy(script: str, style: str) -> str:
    """Returns the content policy of a page: this script and style, no other, and no request to anywhere.

    Examples:
        >>> policy("", "").partition("; ")[0]
        "default-src 'none'"
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_source(script)}",
            f"style-src {_source(style)}",
            "img-src data:",  # the empty icon
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ]
    )


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
