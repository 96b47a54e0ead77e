"""Whether a server keeps the description: what `sandbox-api verify` runs.

Needs the packages of `sandbox-api[verify]`.
"""

from .report import ASPECTS, Break, Report
from .run import verify

__all__ = ["ASPECTS", "Break", "Report", "verify"]
