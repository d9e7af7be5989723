"""Fine-tuning: a language model and a corpus go in, a tuned language model comes out.

The only package that imports accelerate.
"""

from liftlearn._finetuner._processes import share_stream
from liftlearn._finetuner._tuner import FineTuner

__all__ = ["FineTuner", "share_stream"]
