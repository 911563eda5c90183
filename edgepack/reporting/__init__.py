"""Judge measurements by limits, and write what was found as html, md and json."""

from edgepack.reporting.document import to_json
from edgepack.reporting.markdown import to_markdown
from edgepack.reporting.page import to_html

__all__ = ["to_html", "to_json", "to_markdown"]
