"""A saved estimator, whichever it is."""

from __future__ import annotations

from os import PathLike

from liftlearn._estimators._base import ESTIMATORS
from liftlearn._estimators._classifier import LIFTClassifier
from liftlearn._estimators._density import LIFTDensity
from liftlearn._estimators._hub import downloaded
from liftlearn._estimators._regressor import LIFTRegressor
from liftlearn._saving import load_fitted


def load(
    folder: str | PathLike[str],
    *,
    base: str | PathLike[str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    from_hub: bool = False,
) -> LIFTClassifier | LIFTDensity | LIFTRegressor:
    """Load an estimator that was saved with its ``save`` method.

    The folder holds safetensors and JSON: nothing in it is executed. Every file is
    compared with the sha256 that was saved; this finds damage, not forgery. Nothing is
    downloaded, unless ``from_hub`` is set or ``base`` is a name on the hub.

    Parameters
    ----------
    folder : str or PathLike
        The folder; with ``from_hub`` the name of a repository, too.
    base : str or PathLike, default=None
        Where the base model of a saved adapter is now: a folder, a ``.gguf`` file or a
        name on the Hugging Face hub. None is where it was when the adapter was
        trained; a name on the hub is then looked up among downloaded files. Other
        weights than those that were trained on are refused.
    device : str, default=None
        Where the model runs, such as ``"cpu"`` or ``"cuda:0"``. None is the
        estimator's own ``device`` where this machine has it, else a GPU where there is
        one. The estimator's parameter stays as it was.
    dtype : str, default=None
        What the model's weights are kept in, as for the estimators. None is the
        estimator's own ``dtype``. In another one predictions differ by rounding.
    from_hub : bool, default=False
        Whether to download what `push_to_hub` uploaded, such as ``"user/name"``. A
        folder of that name is taken first. An adapter's base model must be here
        already, or be named by ``base``.

    Returns
    -------
    estimator : LIFTClassifier, LIFTRegressor or LIFTDensity
        The fitted estimator: parameters, attributes and predictions are those of the
        one that was saved.

    Raises
    ------
    FileNotFoundError
        If the folder, or a file of it, does not exist, or the hub has no such
        repository.
    ValueError
        If a file is not as it was saved, a newer version of liftlearn saved it, it
        holds what no ``save`` writes, there is no such device or dtype, or the base
        model of its adapter cannot be loaded or has other weights.

    See Also
    --------
    LIFTClassifier.save : Saves a classifier.
    LIFTRegressor.save : Saves a regressor.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_iris
    >>> from liftlearn import FineTuner, LIFTClassifier, load
    >>> X, y = load_iris(return_X_y=True)
    >>> tuner = FineTuner(max_steps=10)
    >>> with TemporaryDirectory() as folder:
    ...     LIFTClassifier(finetuner=tuner).fit(X, y).save(folder)
    ...     load(folder).classes_
    array([0, 1, 2])
    """
    if from_hub:
        folder = downloaded(folder)
    estimator: LIFTClassifier | LIFTDensity | LIFTRegressor = load_fitted(
        folder, device, ESTIMATORS, base=base, dtype=dtype
    )
    return estimator
