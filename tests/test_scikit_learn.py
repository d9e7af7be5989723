from sklearn.utils.estimator_checks import parametrize_with_checks

from liftlearn import LIFTClassifier, LIFTRegressor


@parametrize_with_checks([LIFTClassifier(), LIFTRegressor()])
def test_the_estimator_does_what_scikit_learn_expects(estimator, check):
    check(estimator)
