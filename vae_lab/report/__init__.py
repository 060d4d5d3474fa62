"""One study to what a reader is given: its tables, its page, and what its parent run keeps."""

from __future__ import annotations

from vae_lab.report.analyses import analyses, analysis_tables
from vae_lab.report.conclusion import Conclusion, conclude, description
from vae_lab.report.contents import Contents, gather
from vae_lab.report.page import ARTIFACT, html, markdown, write

__all__ = [
    "ARTIFACT",
    "Conclusion",
    "Contents",
    "analyses",
    "analysis_tables",
    "conclude",
    "description",
    "gather",
    "html",
    "markdown",
    "write",
]
