"""The estimators: they check the table and the target, and run the parts in order."""

from liftlearn._estimators._classifier import LIFTClassifier
from liftlearn._estimators._density import LIFTDensity
from liftlearn._estimators._inspection import marginal_importance
from liftlearn._estimators._load import load
from liftlearn._estimators._regressor import LIFTRegressor, neg_crps_scorer

__all__ = [
    "LIFTClassifier",
    "LIFTDensity",
    "LIFTRegressor",
    "load",
    "marginal_importance",
    "neg_crps_scorer",
]
