"""Learn tables through language: LIFT as scikit-learn estimators."""

from liftlearn._decoder import LabelDecoder, NumberDecoder
from liftlearn._displays import DensityDisplay, IntervalDisplay, TrainingDisplay
from liftlearn._distribution import NumberDistribution
from liftlearn._encoder import RowEncoder
from liftlearn._estimators import (
    LIFTClassifier,
    LIFTDensity,
    LIFTRegressor,
    load,
    marginal_importance,
    neg_crps_scorer,
)
from liftlearn._finetuner import FineTuner
from liftlearn._language_model import Ensemble, LanguageModel

__all__ = [
    "DensityDisplay",
    "Ensemble",
    "FineTuner",
    "IntervalDisplay",
    "LIFTClassifier",
    "LIFTDensity",
    "LIFTRegressor",
    "LabelDecoder",
    "LanguageModel",
    "NumberDecoder",
    "NumberDistribution",
    "RowEncoder",
    "TrainingDisplay",
    "load",
    "marginal_importance",
    "neg_crps_scorer",
]
__version__ = "0.1.0"
