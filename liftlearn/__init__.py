"""Learn tables through language: LIFT as scikit-learn estimators."""

from liftlearn._encoder import RowEncoder
from liftlearn._finetuner import FineTuner
from liftlearn._language_model import LanguageModel
