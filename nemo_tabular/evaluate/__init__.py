"""Enter: real and synthetic tables.
Leave: a Report of how faithful, how useful and how private the synthetic one is.
"""

from nemo_tabular.evaluate.assess import evaluate
from nemo_tabular.evaluate.report import Report, report_place

__all__ = ["Report", "evaluate", "report_place"]
