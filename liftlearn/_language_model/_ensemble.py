"""An ensemble of tuned models, whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from liftlearn._language_model._model import LanguageModel

# The folder of each member but the first, whose files are the ensemble's folder's own.
_FOLDER = "member-{}"


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Language models that were tuned apart; a prediction is the mean of theirs.

    Parameters
    ----------
    members : tuple of LanguageModel
        The models.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from liftlearn import FineTuner, LIFTClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> tuner = FineTuner(n_models=2, max_steps=10)
    >>> classifier = LIFTClassifier(finetuner=tuner).fit(X, y)
    >>> len(classifier.language_model_.members)
    2
    """

    members: tuple[LanguageModel, ...]

    def score(
        self, prompts: Sequence[str], answers: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return the logarithm of each answer's probability, the mean of the members'.

        Parameters
        ----------
        prompts : sequence of str
            The sentences.
        answers : sequence of str
            The possible answers.

        Returns
        -------
        score : ndarray of shape (n_prompts, n_answers)
            As `LanguageModel.score`.
        """
        scores = [member.score(prompts, answers) for member in self.members]
        mean: NDArray[np.float64] = logsumexp(scores, axis=0, b=1 / len(scores))
        return mean

    def save(self, folder: str | PathLike[str]) -> None:
        """Save the members: the first as the folder itself, each other in one below.

        Parameters
        ----------
        folder : str or PathLike
            Where to write; what `LanguageModel.save` writes and refuses holds for it.
        """
        for i, member in enumerate(self.members):
            member.save(_folder(folder, i))

    def merged(self) -> Ensemble:
        """Return a copy whose members have no adapters.

        Returns
        -------
        models : Ensemble
            What `LanguageModel.merged` makes of each member.
        """
        return Ensemble(tuple(member.merged() for member in self.members))

    @classmethod
    def load(
        cls,
        folder: str | PathLike[str],
        *,
        device: str | None = None,
        dtype: str = "auto",
        base: str | PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> Self | LanguageModel:
        """Load what `save` wrote.

        Parameters
        ----------
        folder : str or PathLike
            The folder.
        device : str, default=None
            As for `LanguageModel.load`.
        dtype : str, default="auto"
            As for `LanguageModel.load`.
        base : str or PathLike, default=None
            As for `LanguageModel.load`.
        local_files_only : bool, default=False
            As for `LanguageModel.load`.

        Returns
        -------
        models : Ensemble or LanguageModel
            The members; or the model alone, if there is but one.
        """

        def load(folder: str | PathLike[str]) -> LanguageModel:
            return LanguageModel.load(
                folder,
                device=device,
                dtype=dtype,
                base=base,
                local_files_only=local_files_only,
            )

        members = [load(folder)]
        while (below := _folder(folder, len(members))).is_dir():
            members.append(load(below))
        return cls(tuple(members)) if len(members) > 1 else members[0]


def _folder(folder: str | PathLike[str], i: int) -> Path:
    return Path(folder) / _FOLDER.format(i) if i else Path(folder)
