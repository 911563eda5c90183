"""A report as strict JSON: no NaN, no infinity."""

from __future__ import annotations

from edgepack import files
from edgepack.records import Report, to_dict


def to_json(report: Report) -> str:
    """The whole record, raw samples included, as the ``edgepack.report/1`` document."""
    return files.to_json(to_dict(report))
