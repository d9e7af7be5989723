"""Fine-tuning: a language model and a corpus go in, tuned members come out.

The only package that imports accelerate.
"""

from liftlearn._finetuner._cost import PeakMemory, TrainingCost, bytes_of
from liftlearn._finetuner._members import Member, Metric
from liftlearn._finetuner._processes import share_stream
from liftlearn._finetuner._progress import tell
from liftlearn._finetuner._tuner import FineTuner

__all__ = [
    "FineTuner",
    "Member",
    "Metric",
    "PeakMemory",
    "TrainingCost",
    "bytes_of",
    "share_stream",
    "tell",
]
