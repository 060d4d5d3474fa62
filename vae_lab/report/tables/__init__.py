"""Tables of a study, and how they look in the terminal, Markdown, CSV, LaTeX and HTML.

- `content`: cells, columns and tables, before anything is written.
- `ablations`: one row a configuration, with intervals over its replicates and the best marked.
- `contrasts`: what a change of one parameter does, with intervals and tests.
- `importance`: which hyperparameter explains how much.
- `averages`: which rows average over less than others, and so have no rank.
- `real_images`: the row of what the lab measures of real images.
- `formats`, `terminal`: how tables are written.
"""

from vae_lab.report.tables.ablations import ablation_tables, mean_cell, study_tables
from vae_lab.report.tables.content import Cell, Column, Columns, Table, finite
from vae_lab.report.tables.contrasts import Contrast, contrast_tables, parse_contrast
from vae_lab.report.tables.formats import (
    FORMATS,
    SUFFIXES,
    csv,
    fragment,
    html,
    latex,
    markdown,
    markdown_text,
)
from vae_lab.report.tables.importance import importance_tables
from vae_lab.report.tables.terminal import show

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "Cell",
    "Column",
    "Columns",
    "Contrast",
    "Table",
    "ablation_tables",
    "contrast_tables",
    "csv",
    "finite",
    "fragment",
    "html",
    "importance_tables",
    "latex",
    "markdown",
    "markdown_text",
    "mean_cell",
    "parse_contrast",
    "show",
    "study_tables",
]
