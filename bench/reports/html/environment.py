"""Where templates are, and how they are read."""

from __future__ import annotations

import jinja2


def environment() -> jinja2.Environment:
    """The templates of this package; what they are given is text, never markup."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("bench.reports.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["thousands"] = lambda number: f"{number:,}"
    found.filters["slug"] = lambda text: text.replace(" ", "-")
    return found
