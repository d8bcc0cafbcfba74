"""The report of a run: one page, made from the plain files of its directory."""

from nasalign.reporting.report.page import FILE, report_html, write_report

__all__ = ["FILE", "report_html", "write_report"]
