"""The evaluation harness: methods on a domain's instances, results on disk, a report with intervals.

>>> import sentax.evaluation as ev
>>> ev.paper("twisted-smc")
MethodSettings(name='twisted-smc', particles=10, ess_threshold=0.9)
>>> ev.bootstrap_interval([0.0, 1.0, 1.0, 0.0], seed=0)
(0.0, 1.0)

What `sentax evaluate` does, in Python::

    report = ev.evaluate("goal_inference", ["lcd", "awrs-smc"], out="results", instances=5)
    print(report.markdown())
"""

from sentax.evaluation.bootstrap import bootstrap_interval
from sentax.evaluation.cell import Answer, Failure, Figures, Record, Times, cell_key
from sentax.evaluation.harness import evaluate
from sentax.evaluation.report import DomainReport, Interval, MethodReport, Report, read_report, write_report
from sentax.evaluation.runner import Runner
from sentax.evaluation.settings import PAPER, ConstraintChoice, MethodSettings, Settings, paper
from sentax.evaluation.store import Manifest, Mismatch, Store

__all__ = [
    "PAPER",
    "Answer",
    "ConstraintChoice",
    "DomainReport",
    "Failure",
    "Figures",
    "Interval",
    "Manifest",
    "MethodReport",
    "MethodSettings",
    "Mismatch",
    "Record",
    "Report",
    "Runner",
    "Settings",
    "Store",
    "Times",
    "bootstrap_interval",
    "cell_key",
    "evaluate",
    "paper",
    "read_report",
    "write_report",
]
