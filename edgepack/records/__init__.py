"""What edgepack hands over: frozen records, each also a versioned JSON document.

Units stand in the names (``_us``, ``_bytes``). Accuracies are fractions 0 to 1. The JSON
schemas in ``edgepack/schemas`` are generated from these types.
"""

from edgepack.records.debug import (
    Debug,
    LayerError,
    Rescue,
    Suggestion,
    TensorError,
    Trial,
)
from edgepack.records.document import SCHEMAS, from_dict, json_schema, to_dict
from edgepack.records.facts import Facts, FactsMemory, Operator, Sparsity, Tensors
from edgepack.records.latency import (
    Bin,
    Comparison,
    Drift,
    Energy,
    Latency,
    OperatorTime,
    OperatorTimes,
    Outliers,
    Pair,
    Sustained,
    ThreadRun,
)
from edgepack.records.measurement import (
    Agreement,
    DeviceRecord,
    Instructions,
    MeasuredMemory,
    Measurement,
    RuntimeRecord,
)
from edgepack.records.pack import Artefact, Check, Pack, PackMemory, Skipped, StepRecord
from edgepack.records.report import Report, ReportSection, Verdict
from edgepack.records.shared import (
    Cost,
    ErrorRecord,
    Fit,
    Quality,
    Record,
    Signature,
    Status,
    TensorSpec,
)

__all__ = [
    "SCHEMAS",
    "Agreement",
    "Artefact",
    "Bin",
    "Check",
    "Comparison",
    "Cost",
    "Debug",
    "DeviceRecord",
    "Drift",
    "Energy",
    "ErrorRecord",
    "Facts",
    "FactsMemory",
    "Fit",
    "Instructions",
    "Latency",
    "LayerError",
    "MeasuredMemory",
    "Measurement",
    "Operator",
    "OperatorTime",
    "OperatorTimes",
    "Outliers",
    "Pack",
    "PackMemory",
    "Pair",
    "Quality",
    "Record",
    "Report",
    "ReportSection",
    "Rescue",
    "RuntimeRecord",
    "Signature",
    "Skipped",
    "Sparsity",
    "Status",
    "StepRecord",
    "Suggestion",
    "Sustained",
    "TensorError",
    "TensorSpec",
    "Tensors",
    "ThreadRun",
    "Trial",
    "Verdict",
    "from_dict",
    "json_schema",
    "to_dict",
]
