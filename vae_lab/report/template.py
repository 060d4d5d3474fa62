"""The files of folders `templates/`: pages, tables and saved views, filled in with Jinja2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from vae_lab import files
from vae_lab.errors import visible_lines

if TYPE_CHECKING:
    from jinja2 import Environment


def filled(
    name: str,
    filters: Mapping[str, Callable[..., object]] | None = None,
    package: str = "vae_lab.report",
    /,
    **values: Any,
) -> str:
    """Returns a template with these values, all of them visible; in an HTML template every text is escaped.

    Args:
        name: of the file, such as `page.html.jinja`.
        filters: functions that the template applies to values.
        package: whose folder `templates` holds the file.
        values: what the template names.
    """
    environment = _environment(name.endswith(".html.jinja"), package)
    environment.filters.update(filters or {})
    return environment.get_template(name).render(values)


def style(*names: str) -> str:
    """Returns the style sheets of these names, one after the other."""
    return "".join(
        (files.PACKAGE / "report" / "templates" / name).read_text(encoding="utf-8") for name in names
    )


@cache
def _environment(escaped: bool, package: str) -> Environment:
    from jinja2 import Environment, PackageLoader  # late: most commands write no page

    loader = PackageLoader(package)
    return Environment(
        loader=loader, autoescape=escaped, trim_blocks=True, lstrip_blocks=True, finalize=_made_visible
    )


def _made_visible(value: object) -> object:
    return visible_lines(value) if type(value) is str else value  # not markup, which was made from such texts
