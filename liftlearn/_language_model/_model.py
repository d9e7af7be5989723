"""The language model as other modules see it: load, save, tokens and scores."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from liftlearn._files import locked
from liftlearn._language_model import _adapter
from liftlearn._language_model._in_context import InContext, reads_in_context
from liftlearn._language_model._passes import (
    Passes,
    Read,
    is_quantized,
    n_most_tokens,
)
from liftlearn._language_model._preferences import preferences_of
from liftlearn._language_model._pretrained import (
    check_dtype,
    dense,
    find_device,
    find_source,
    gains_by_bf16,
    load_pretrained,
    name_of_dtype,
    no_bars,
    ready_to_score,
)
from liftlearn._language_model._scorer import (
    AnswerScorer,
    Field,
    SentenceScorer,
    Trie,
)
from liftlearn._language_model._sentences import Sentences
from liftlearn._language_model._shards import is_spread, spread
from liftlearn._language_model._surroundings import evaluating, in_plain_torch
from liftlearn._validation import Interval, check_number
from liftlearn._values import check_texts

# Tokens that one pass over prompts holds at the most, with those of the answers. What a
# tiny model computes of fewer stays in a processor's cache; a large one has no loss.
_BATCH_TOKENS, _CACHED_TOKENS = 4096, 1024
# A byte of text is hardly ever more tokens than one.
_TOKENS_A_BYTE = 2
# Attributes that copies and pickles leave out.
_MADE_AGAIN = {"_last_labelled", "_last_scorer", "_lead", "_most_tokens"}
# What an answer's tokens are read behind, to find them as they are in running text.
_BEFORE = "?"


class LanguageModel:
    """A causal language model with its tokenizer, as `language_model_` holds it.

    Use `load` to get one.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The causal language model.
    tokenizer : transformers.PreTrainedTokenizerBase
        Its tokenizer.

    Attributes
    ----------
    model, tokenizer
        As given.
    preferences : dict
        For each task (``"classification"``, ``"regression"``) the parameters that
        suit this model: ``{"encoder": {...}, "finetuner": {...}, "decoder": {...}}``.
        They stand under the key ``liftlearn`` of the model's ``config.json``.
    adapter : peft.LoraConfig or None
        What the model's adapter is made of, where it has one. The other weights are
        shared with the model under it.

    Examples
    --------
    >>> from liftlearn import LanguageModel
    >>> lm = LanguageModel.load()
    >>> lm.score(["x0 53 y?"], ["y0", "y1", "y2"]).shape
    (1, 3)
    """

    # What the last answers were scored with.
    _last_scorer: tuple[Any, AnswerScorer] | None = None
    # What last read labelled rows.
    _last_labelled: tuple[Any, InContext] | None = None

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.tokenizer = tokenizer
        # What `load` was given for this model; None if its weights are its own.
        self._origin: dict[str, Any] | None = None
        # The model under the adapter.
        self._base: Self | None = None
        # What it scores in, while a copy is trained in another precision.
        self._dtype: torch.dtype = model.dtype

    def __repr__(self) -> str:
        n_weights = sum(weight.numel() for weight in self.model.parameters())
        facts = [
            type(self.model).__name__,
            f"{n_weights:,} weights in {self.dtype}",
            f"on {self.model.device}",
        ]
        if self.adapter is not None:
            facts.append(f"adapter of rank {self.adapter.r}")
        return f"{type(self).__name__}({', '.join(facts)})"

    @classmethod
    def load(
        cls,
        model: str | PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: str = "auto",
        base: str | PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a model and its tokenizer.

        Parameters
        ----------
        model : str, PathLike or None, default=None
            A folder with a whole model or with an adapter, whose base is loaded, too; a
            ``.gguf`` file; or a name on the Hugging Face hub, of which
            ``"name@revision"`` is a branch, tag or commit. A ``Path`` is always local.
            None is the embedded model that is fine-tuned, ``"liftlearn:reader"`` that
            which reads tables in context.
        device : str, default=None
            Where it runs, such as ``"cpu"`` or ``"cuda:0"``. None is a GPU where there
            is one.
        dtype : {"auto", "float32", "bfloat16", "float16", "int8", "nf4"}, \
                default="auto"
            What its weights are kept in. ``"auto"`` is the model's preference. Else it
            is float32 up to 300 million weights; larger models stay in 16 bits, if
            their files and the device have these. ``"int8"`` and ``"nf4"``, 4 bits,
            quantize the linear layers.
        base : str or PathLike, default=None
            The base model of an adapter, where it is not what the adapter's folder
            names: because it was moved, or is elsewhere on this machine.
        local_files_only : bool, default=False
            Whether a name on the hub is looked up among downloaded files alone.

        Returns
        -------
        lm : LanguageModel
            In evaluation mode. Its weights are shared by later loads and never changed.

        Raises
        ------
        FileNotFoundError
            If a folder or a ``.gguf`` file does not exist.
        ImportError
            If the package that a ``.gguf`` file, an adapter or fewer bits than 16 need
            is missing.
        ValueError
            If it is no causal language model, its files can't be read, or they ask
            for code or files from elsewhere; if its preferences name no parameter, or a
            value that one can't have; if there is no such device or dtype; if an
            adapter's base cannot be loaded, or is another model than when the adapter
            was saved.
        """
        where = find_device(device)
        check_dtype(dtype)
        # Not while another process or thread saves there.
        with _kept_whole(model):
            if model is not None and _adapter.holds_adapter(model):
                return cls._load_adapted(model, device, dtype, base, local_files_only)
            if base is not None:
                raise ValueError(
                    f"base={str(base)!r} is for a folder with an adapter, but "
                    f"{model!r} is a whole model. Leave it out."
                )
            source = find_source(model, local_files_only=local_files_only)
            lm = cls(*load_pretrained(source, where, dtype))
        if model is not None and Path(model).exists():
            model = str(Path(model).resolve())
        lm._origin = {"model": model, "device": device, "dtype": dtype}
        return lm

    @classmethod
    def _load_adapted(
        cls,
        folder: str | PathLike[str],
        device: str | None,
        dtype: str,
        base: str | PathLike[str] | None,
        local_files_only: bool,
    ) -> Self:
        """Load the adapter in a folder, over its base."""
        saved = _adapter.read_adapter(folder)
        named = saved.base if base is None else base
        try:
            if Path(named).is_dir() and _adapter.holds_adapter(named):
                raise ValueError("It is an adapter itself.")
            under = cls.load(
                named, device=device, dtype=dtype, local_files_only=local_files_only
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{str(folder)!r} holds an adapter of the model {str(named)!r}, which "
                f"could not be loaded ({str(error).rstrip('.')}). Name the folder or "
                "the name that the model has now: liftlearn.load(folder, base=...) or "
                "LanguageModel.load(folder, base=...)."
            ) from error
        under._check_fingerprint(saved.fingerprint)
        return under._ready_with(saved.config, saved.weights)

    @property
    def dtype(self) -> str:
        """What the model's weights are kept in, such as ``"float32"``."""
        return name_of_dtype(self.model, self._dtype)

    @property
    def is_quantized(self) -> bool:
        """Whether the weights have 8 or 4 bits, so that an adapter alone is trained."""
        return is_quantized(self.model)

    @property
    def preferences(self) -> Mapping[str, Any]:
        """Parameters of the parts that suit this model, for each task."""
        return preferences_of(self.model.config)

    @property
    def reads_in_context(self) -> bool:
        """Whether the model sees labelled rows through its attention."""
        return reads_in_context(self.model)

    def is_on(self, device: str) -> bool:
        """Return whether the model runs on a device.

        Parameters
        ----------
        device : str
            As for `load`.

        Returns
        -------
        is_on : bool
            ``"cuda"`` is the first GPU.

        Raises
        ------
        ValueError
            If there is no such device.
        """
        own, other = self.model.device, torch.device(find_device(device))
        return (own.type, own.index or 0) == (other.type, other.index or 0)

    def in_context(
        self,
        sentences: Sequence[str],
        answers: Sequence[str],
        weight: NDArray[np.float64],
        seed: int,
    ) -> InContext:
        """Return what scores answers after labelled rows were read.

        Only for a model that `reads_in_context`.

        Parameters
        ----------
        sentences : sequence of str
            The rows' prompts.
        answers : sequence of str
            Their answers.
        weight : ndarray of shape (n_rows,)
            Their weights.
        seed : int
            Draws in which orders they are read.

        Returns
        -------
        labelled : InContext
            That of the last call, if it was of the same rows.
        """
        made_of = (*sentences, *answers, seed, *weight)
        if self._last_labelled is None or self._last_labelled[0] != made_of:
            labelled = InContext(self, sentences, answers, weight, seed)
            self._last_labelled = made_of, labelled
        return self._last_labelled[1]

    @property
    def adapter(self) -> Any | None:
        """What the model's adapter is made of; None without one."""
        return _adapter.adapter_of(self.model)

    @property
    def adapter_precision(self) -> str:
        """What an adapter is best trained in: ``"no"`` (float32), bf16 or fp16."""
        halves = {torch.bfloat16: "bf16", torch.float16: "fp16"}
        own = halves.get(self._dtype)
        return own or ("bf16" if gains_by_bf16(self.model.device) else "no")

    def default_adapter(self) -> Any:
        """Return the adapter that suits most models: LoRA [1]_ on all linear layers.

        Its rank is 16, its scale 32 / 16, without dropout. The head has none.

        Returns
        -------
        config : peft.LoraConfig
            What the adapter is made of.

        Raises
        ------
        ImportError
            If peft is not installed.

        References
        ----------
        .. [1] E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
           ICLR 2022.
        """
        return _adapter.lora(self.model)

    @in_plain_torch
    def save(self, folder: str | PathLike[str]) -> None:
        """Save the model and its tokenizer as a folder that `load` reads.

        Of a model with an adapter the adapter alone is saved, in peft's format, if its
        base was loaded from a folder or the hub; the base must stay there, or be named
        to `load`. Save ``merged()`` for a folder that needs no other.

        Parameters
        ----------
        folder : str or PathLike
            Where to write ``config.json`` and safetensors weights, in the model's
            dtype but no float64, or ``adapter_config.json`` and the adapter's, and the
            tokenizer's files.

        Raises
        ------
        FileExistsError
            If a whole model would be written to an adapter, or the other way round, or
            the folder is a file.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        origin = self._base and self._base._origin
        if self._base and origin and origin["model"]:
            weights = _adapter.adapter_weights(self.model)
            mark = _adapter.fingerprint(self._base.model)
            saved = _adapter.SavedAdapter(origin["model"], self.adapter, weights, mark)
            with locked(folder, exclusive=True):
                _refuse(folder, "config.json", "a whole model")
                _adapter.write_adapter(folder, saved)
                self.tokenizer.save_pretrained(folder)
            return
        whole = self.merged().model
        if self._dtype == torch.float64:
            whole.float()
        # Of processes that were launched together transformers lets the first write,
        # and the others' folders stay without weights.
        whole.should_save_on_this_rank = lambda is_main_process: True
        # What it is made of was waited for before: a load holds those locks, too.
        with locked(folder, exclusive=True), no_bars():
            _refuse(folder, "adapter_config.json", "an adapter")
            whole.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    @in_plain_torch
    def merged(self) -> Self:
        """Return a copy without adapter, which shares no weights with this one.

        Returns
        -------
        lm : LanguageModel
            In evaluation mode; where there was an adapter, it is added to the weights.
            Quantized weights are dense in it.
        """
        if self.is_quantized:
            model = dense((self._base or self).model, self._dtype)
            if self.adapter is not None:
                weights = _adapter.adapter_weights(self.model)
                model = _adapter.with_adapter(model, self.adapter, weights)
        else:
            model = copy.deepcopy(self.model)
        if self.adapter is not None:
            _adapter.merge(model)
        return type(self)(ready_to_score(model, self._dtype), self.tokenizer)

    @in_plain_torch
    def trainable_copy(
        self, adapter: Any | None = None, base_precision: torch.dtype = torch.float32
    ) -> Self:
        """Return a copy to train, by which this one is not changed.

        Parameters
        ----------
        adapter : peft.LoraConfig, default=None
            What is trained: an adapter, while all other weights share their storage
            with this model. Its own ``adapter``, or one of equal parameters, goes on
            from its weights; before another one is put in, the own one is merged. None
            trains all weights.
        base_precision : torch.dtype, default=torch.float32
            Precision of the weights that an adapter leaves as they are; they are
            copied if they are in another.

        Returns
        -------
        lm : LanguageModel
            In training mode; its float32 weights to train require gradients.

        Raises
        ------
        ImportError
            If peft is not installed.
        TypeError
            If ``adapter`` is not a ``peft.LoraConfig``.
        ValueError
            If the adapter would change the base model, or the model's head.
        """
        if self.is_quantized:
            base_precision = self._dtype
            if adapter is None:
                raise ValueError(
                    f"The weights of a model in {self.dtype} can't be trained, only an "
                    'adapter over them. Set FineTuner(adapter="auto"), or '
                    'dtype="bfloat16".'
                )
        if adapter is None:
            lm = self.merged()
            lm.model.float().requires_grad_(True)
        elif self._base is not None and self._has(adapter, self._base):
            weights = _adapter.adapter_weights(self.model)
            lm = self._base._adapted(self.adapter, weights, base_precision)
        else:
            base = self if self.adapter is None else self.merged()
            lm = base._adapted(adapter, None, base_precision)
        lm.model.train()
        return lm

    def _has(self, adapter: Any, base: LanguageModel) -> bool:
        """Return whether an adapter is the model's own, or asks for the same."""
        own = self.adapter
        return adapter is own or _adapter.makes_again(base.model, adapter, self.model)

    def checkpoint_activations(self) -> None:
        """Make training compute each layer twice rather than keep all it computed.

        Raises
        ------
        ValueError
            If the model's code does not provide for it.
        """
        try:
            self.model.activation_checkpointing_enable()
        except ValueError as error:
            raise ValueError(
                f"The model ({type(self.model).__name__}) cannot checkpoint its "
                "activations. Set FineTuner(gradient_checkpointing=False), and lower "
                "batch_size if memory is short."
            ) from error
        # A hook that only the other, reentrant kind of checkpoint needs.
        self.model.disable_input_require_grads()

    @in_plain_torch
    def scoring_copy(self) -> Self:
        """Return a copy to score with, which shares no weights that are trained.

        Returns
        -------
        lm : LanguageModel
            In evaluation mode, in the precision that the model prefers.
        """
        if self._base is None and self.is_quantized:
            return self  # whose weights are never trained
        if self._base is None:
            return self.merged()
        device = self._base.model.device
        weights = _adapter.adapter_weights(self.model)
        weights = {name: weight.to(device) for name, weight in weights.items()}
        return self._base._ready_with(self.adapter, weights)

    def spread(self, device: torch.device) -> None:
        """Leave this process its share of the weights under an adapter, to train it.

        Parameters
        ----------
        device : torch.device
            Where the processes that were launched together compute.

        Raises
        ------
        ValueError
            If the model can't be spread.
        """
        spread(self.model, device)

    @in_plain_torch
    def _ready_with(self, config: Any, weights: Mapping[str, Tensor]) -> Self:
        """Return a copy with an adapter to score with."""
        lm = self._adapted(config, weights)
        lm.model.requires_grad_(False).eval()
        if self._dtype == torch.float64:
            lm.model.to(self._dtype)  # as the base is, and the adapter, too
        return lm

    def _adapted(
        self,
        config: Any,
        weights: Mapping[str, Tensor] | None = None,
        base_precision: torch.dtype | None = None,
    ) -> Self:
        """Return a copy with an adapter, which shares this model's weights."""
        model = _adapter.with_adapter(self.model, config, weights, base_precision)
        lm = type(self)(model, self.tokenizer)
        lm._base = self
        return lm

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Leave out weights that `load` can give again."""
        if self._base is not None:
            weights = {
                name: weight.cpu()
                for name, weight in _adapter.adapter_weights(self.model).items()
            }
            return _adapted_again, (self._base, self.adapter, weights)
        if self._origin is not None:
            mark = _adapter.fingerprint(self.model)
            return _loaded_again, (type(self), self._origin, mark)
        return super().__reduce_ex__(protocol)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again."""
        return {k: v for k, v in vars(self).items() if k not in _MADE_AGAIN}

    def _check_fingerprint(self, expected: str | None) -> None:
        """Raise if the weights are others than those that the fingerprint is of."""
        own = _adapter.fingerprint(self.model)
        if expected is not None and not _adapter.are_alike(expected, own):
            name = self._origin and self._origin["model"]
            raise ValueError(
                f"The weights of the model {name or 'embedded in liftlearn'!r} are "
                "others than when it was saved. Put the former ones back, name the "
                "model that was fine-tuned with load(folder, base=...), or fine-tune "
                "again."
            )

    def prompt_tokens(self, prompts: Sequence[str], n_more: int = 0) -> list[list[int]]:
        """Return the tokens of each prompt, with what the model wants before them.

        Parameters
        ----------
        prompts : sequence of str
            The sentences.
        n_more : int, default=0
            Tokens of an answer that must fit behind each prompt.

        Returns
        -------
        tokens : list of list of int
            The tokens of each prompt.

        Raises
        ------
        ValueError
            If a prompt and its answer are longer than the model can read.
        TypeError
            If a prompt is no text.
        """
        tokens = self._prompt_tokens(prompts)
        self._refuse_long(map(len, tokens), range(len(tokens)), n_more)
        return tokens

    def check_lengths(
        self, prompts: Sequence[str], n_more: int, rows: Sequence[int] | NDArray[Any]
    ) -> None:
        """Raise ValueError if a prompt and its answer are longer than can be read.

        This is faster than `prompt_tokens`, since few prompts could be that long.

        Parameters
        ----------
        prompts : sequence of str
            The sentences.
        n_more : int
            Tokens of an answer that must fit behind each prompt.
        rows : sequence of int
            The number that the error message gives each prompt.
        """
        doubtful = self._doubtful(prompts, n_more)
        if doubtful:
            tokens = self._prompt_tokens([prompts[i] for i in doubtful])
            self._refuse_long(map(len, tokens), [rows[i] for i in doubtful], n_more)

    def too_long(self, prompts: Sequence[str], n_more: int) -> list[int]:
        """Return which prompts are longer than can be read, with their answers.

        Parameters
        ----------
        prompts : sequence of str
            The sentences.
        n_more : int
            Tokens of an answer that must fit behind each prompt.

        Returns
        -------
        indices : list of int
            Those of the prompts that are too long.
        """
        doubtful = self._doubtful(prompts, n_more)
        if not doubtful:
            return []
        tokens = self._prompt_tokens([prompts[i] for i in doubtful])
        limit = self._most_tokens - n_more
        return [i for i, ids in zip(doubtful, tokens, strict=True) if len(ids) > limit]

    def n_fitting(
        self, prompts: Sequence[str], shots: Sequence[str], n_shots: int, n_more: int
    ) -> int:
        """Return how many shots fit before a prompt, whichever they are.

        Parameters
        ----------
        prompts : sequence of str
            The sentences; the longest counts.
        shots : sequence of str
            The texts of labelled rows; the longest count.
        n_shots : int
            How many there are to be at the most.
        n_more : int
            Tokens of an answer that must fit behind each prompt.

        Returns
        -------
        n_fitting : int
            At most ``n_shots``.
        """
        n_bytes = sorted(len(shot.encode()) for shot in shots)
        most = sum(n_bytes[-n_shots:]) + max(len(p.encode()) for p in prompts)
        if _TOKENS_A_BYTE * most + len(self._lead) + n_more <= self._most_tokens:
            return n_shots
        room = self._most_tokens - n_more - max(map(len, self._prompt_tokens(prompts)))
        lengths = sorted(map(len, self._tokens(shots)), reverse=True)
        fits = np.cumsum(lengths[:n_shots]) <= room
        return int(np.count_nonzero(fits))

    def separator(self, answers: Sequence[str]) -> str:
        """Return what stands between an answer and a sentence that follows it.

        That is a line's end, if the answers keep their tokens before it. Tokenizers
        that know a word by the space before it alone get spaces around it.

        Parameters
        ----------
        answers : sequence of str
            The answers.

        Returns
        -------
        separator : str
            The text between them.
        """
        own = self._answer_tokens(answers)
        whole = self._answer_tokens([f"{answer}\n{_BEFORE}" for answer in answers])
        keeps = all(
            ids[: len(alone)] == alone for ids, alone in zip(whole, own, strict=True)
        )
        return "\n" if keeps else " \n "

    def _doubtful(self, prompts: Sequence[str], n_more: int) -> list[int]:
        """Return which prompts might be too long, by their bytes."""
        most_bytes = (self._most_tokens - n_more) / _TOKENS_A_BYTE
        return [
            i for i, prompt in enumerate(prompts) if len(prompt.encode()) > most_bytes
        ]

    @cached_property
    def _most_tokens(self) -> float:
        """How many tokens the model can read."""
        return n_most_tokens(self.model) or np.inf

    @cached_property
    def _lead(self) -> list[int]:
        """What the model wants before a prompt."""
        # Splitting is switched for the whole tokenizer, which threads share.
        lead: list[int] = self.tokenizer("", split_special_tokens=True)["input_ids"]
        ends = bool(lead) and lead[-1] == self.tokenizer.eos_token_id != lead[0]
        return lead[:-1] if ends else lead

    def _prompt_tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        prompts = _texts(prompts, "prompts")
        # There must be something to answer to: an empty prompt is read as an end mark.
        end = [self.tokenizer.eos_token_id]
        return [self._lead + ids or end for ids in self._tokens(prompts)]

    def _refuse_long(
        self, lengths: Iterable[int], rows: Iterable[int], n_more: int
    ) -> None:
        limit = self._most_tokens - n_more
        numbered = zip(rows, lengths, strict=True)
        too_long = [(row, n_tokens) for row, n_tokens in numbered if n_tokens > limit]
        if too_long:
            row, n_tokens = min(too_long)
            raise ValueError(
                f"Row {row} is {n_tokens + n_more} tokens long with its answer, but "
                f"the model reads at most {self._most_tokens}. Drop columns, or write "
                "fewer digits with RowEncoder(digits=...) or less text with "
                "RowEncoder(text_length=...)."
            )

    def trie(self, answers: Sequence[str]) -> Trie:
        """Return the trie of the answers' tokens.

        Parameters
        ----------
        answers : sequence of str
            Distinct answers.

        Returns
        -------
        trie : Trie
            Their tokens as a tree.

        Raises
        ------
        ValueError
            If there is no answer, two have the same tokens, or the tokenizer has no
            end mark.
        TypeError
            If an answer is no text.
        """
        if not len(_texts(answers, "answers")):
            raise ValueError("Expected one answer or more, got none.")
        paths = self._answer_tokens(answers)
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ValueError(
                "The tokenizer has no end-of-sequence token, which marks the end of an "
                "answer. Set tokenizer.eos_token and save the folder again."
            )
        return Trie(paths, end, answers)

    def fields(self, fields: Sequence[tuple[str, Sequence[str]]]) -> list[Field]:
        """Return the answers of one sentence as tokens.

        Parameters
        ----------
        fields : sequence of pairs
            For each answer the text that stands before it, which may be empty, and the
            distinct texts that it can be.

        Returns
        -------
        fields : list of Field
            The tokens before each, and the trie of what it can be.

        Raises
        ------
        ValueError
            As for `trie`.
        """
        headers = self._answer_tokens([header for header, _ in fields])
        return [
            Field(tokens if header else [], self.trie(answers))
            for tokens, (header, answers) in zip(headers, fields, strict=True)
        ]

    def sentences(
        self, prompt: str, fields: Sequence[tuple[str, Sequence[str]]]
    ) -> Sentences:
        """Return what tells of sentences with several answers.

        Parameters
        ----------
        prompt : str
            What all of them begin with.
        fields : sequence of pairs
            As for `fields`.

        Returns
        -------
        sentences : Sentences
            It reads the model's weights as they are.

        Raises
        ------
        ValueError
            As for `trie`, or if the longest sentence is longer than the model can read.
        """
        scorer = SentenceScorer(self.model, self.fields(fields))
        [tokens] = self.prompt_tokens([prompt], scorer.n_answer_tokens)
        return Sentences(scorer, tokens, self.padded)

    def _answer_tokens(self, answers: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each answer as it stands in running text.

        That is behind a space, which most vocabularies put into a word's first token,
        and some tokenizers also write before any text.
        """
        before = self._tokens([_BEFORE])[0]
        n_before = len(before)
        whole = self._tokens([f"{_BEFORE} {answer}" for answer in answers])
        if all(ids[:n_before] == before for ids in whole):
            return [ids[n_before:] for ids in whole]
        return self._tokens([f" {answer}" for answer in answers])

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        check_texts(list(texts), "text")
        # Without splitting, a cell that holds "</s>" would become the end mark.
        # Not verbose: `prompt_tokens` says more of too long a row.
        ids: list[list[int]] = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=True,
            verbose=False,
        )["input_ids"]
        return ids

    @in_plain_torch
    def score(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        *,
        batch_size: int | None = None,
    ) -> NDArray[np.float64]:
        """Return the log-probability of each answer, given that one of them follows.

        The score of an answer is the sum, over its tokens, of the log-softmax among
        the tokens that can follow there in any of the answers. Processes that were
        launched together share the prompts, and all get all scores: each must call.

        Parameters
        ----------
        prompts : sequence of str, length n_prompts
            The sentences.
        answers : sequence of str, length n_answers
            Distinct answers.
        batch_size : int, default=None
            Prompts in one pass. None takes as many as a fixed count of tokens allows.

        Returns
        -------
        score : ndarray of shape (n_prompts, n_answers)
            Log-probabilities in nats; the exponentials of each row sum to 1.

        Raises
        ------
        ValueError
            If a prompt is too long for the model, or two answers have the same tokens.
        TypeError
            If a prompt or an answer is no text.
        """
        if batch_size is not None:
            check_number(
                batch_size,
                Interval(Integral, 1, None, closed="left"),
                "batch_size is a whole number of at least 1",
                "None takes as many prompts as a fixed count of tokens allows.",
            )
        scorer = self._scorer(_texts(answers, "answers"))
        trie = scorer.trie
        tokens = self.prompt_tokens(prompts, trie.depth)
        scores = np.zeros((len(tokens), len(answers)))
        if not trie.nodes or not tokens:
            return scores
        with evaluating(self.model), torch.inference_mode():
            n_shared, start = self._read_shared(tokens, scorer.passes)
            # Rows of like length share a pass, the longest first: what fits it, fits.
            order = np.argsort([-len(ids) for ids in tokens], kind="stable")
            process, n_processes = _rank_among_processes(self.model)
            if batch_size is None:
                longest = max(map(len, tokens)) + trie.depth
                is_cpu = self.model.device.type == "cpu"
                n_tokens = _CACHED_TOKENS if is_cpu else _BATCH_TOKENS
                batch_size = max(1, n_tokens // longest)
                batch_size = min(batch_size, -(-len(order) // n_processes))
            for batch in range(process, -(-len(order) // batch_size), n_processes):
                rows = order[batch * batch_size :][:batch_size]
                own = [tokens[row][n_shared:] for row in rows]
                scores[rows] = self._score_pass(scorer, own, start)
        return _sum_over_processes(scores, self.model)

    def _score_pass(
        self, scorer: AnswerScorer, tokens: Sequence[list[int]], start: Read | None
    ) -> NDArray[np.float64]:
        """Return the scores of rows in one pass, or in halves if memory is short."""
        try:
            scores = scorer.score_all(**self.padded(tokens), start=start)
            return np.asarray(scores.cpu())
        except RuntimeError as error:
            # Of a spread model all processes read the same passes.
            if not _is_out_of_memory(error) or is_spread(self.model):
                raise
            if len(tokens) == 1:
                raise MemoryError(
                    f"Scoring a single row of {len(tokens[0])} tokens ran out of "
                    "memory. Write shorter rows with RowEncoder(text_length=..., "
                    'digits=...), keep the model in 16 bits with dtype="bfloat16", or '
                    "take a smaller one."
                ) from error
        # Here what the failed pass held is free.
        half = len(tokens) // 2
        parts = (tokens[:half], tokens[half:])
        return np.concatenate([self._score_pass(scorer, p, start) for p in parts])

    def _scorer(self, answers: Sequence[str]) -> AnswerScorer:
        """Return what scores the answers, which are mostly those of the last call.

        It reads the model's weights as they are; threads may make it twice.
        """
        model = self.model
        made_for = id(model), model.device, model.dtype, tuple(answers)
        last = self._last_scorer
        if last is None or last[0] != made_for:
            last = made_for, AnswerScorer(model, self.trie(answers))
            self._last_scorer = last
        return last[1]

    def _read_shared(
        self, tokens: list[list[int]], passes: Passes
    ) -> tuple[int, Read | None]:
        """Read what all prompts begin with, where that pays; return its length."""
        n_shared = passes.n_shared(tokens, 1) if len(tokens) > 1 else 0
        if not n_shared:
            return 0, None
        batch = self.padded([tokens[0][:n_shared]])
        return n_shared, passes.read(batch["input_ids"], batch["attention_mask"])

    def padded(self, tokens: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Return token lists as tensors, padded on the left to the longest.

        Parameters
        ----------
        tokens : sequence of sequence of int
            The tokens of each row.

        Returns
        -------
        batch : dict of str to Tensor
            ``input_ids`` and ``attention_mask``, each of shape (n_rows, length).

        Raises
        ------
        ValueError
            If there is no row.
        """
        if not tokens:
            raise ValueError("Expected the tokens of one row or more, got none.")
        length = max(map(len, tokens))
        # Pads are masked, so any token will do; some tokenizers' own has no embedding.
        ids = [[0] * (length - len(row)) + list(row) for row in tokens]
        mask = [[0] * (length - len(row)) + [1] * len(row) for row in tokens]
        device = self.model.device
        return {
            "input_ids": torch.tensor(ids, device=device),
            "attention_mask": torch.tensor(mask, device=device),
        }


def _kept_whole(model: str | PathLike[str] | None) -> AbstractContextManager[None]:
    """Let none save to a model's folder for a while, if it is one."""
    if model is None or not Path(model).is_dir():
        return nullcontext()
    return locked(Path(model), exclusive=False)


def _texts(texts: Sequence[str], name: str) -> Sequence[str]:
    """Return a sequence of texts; one text would be read letter by letter."""
    is_list = hasattr(texts, "__len__") and not isinstance(texts, str)
    if not is_list or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"Expected a list of str as {name}, got {texts!r}.")
    return texts


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether a GPU's or the processor's allocator found no room."""
    is_gpus = isinstance(error, torch.OutOfMemoryError)
    return is_gpus or "can't allocate memory" in str(error)


def _rank_among_processes(model: Any) -> tuple[int, int]:
    """Return this process's number, and how many share what a model is to read."""
    is_launched = distributed.is_available() and distributed.is_initialized()
    if not is_launched or is_spread(model):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _sum_over_processes(scores: NDArray[np.float64], model: Any) -> NDArray[np.float64]:
    """Put together what each process scored; all of them must come here."""
    if _rank_among_processes(model)[1] == 1:
        return scores
    total = torch.from_numpy(scores).to(model.device)
    gpu = torch.accelerator.current_accelerator()
    if gpu is not None and "gloo" not in distributed.get_backend():
        total = total.to(gpu)  # where alone the processes exchange
    distributed.all_reduce(total)
    return total.cpu().numpy()


def _refuse(folder: str | PathLike[str], name: str, kind: str) -> None:
    if (Path(folder) / name).exists():
        raise FileExistsError(
            f"{str(folder)!r} already holds {kind}, which must not be mixed with what "
            "is to be saved. Give another folder, or empty it."
        )


def _adapted_again(base: LanguageModel, config: Any, weights: Any) -> LanguageModel:
    return base._ready_with(config, weights)


def _loaded_again(
    kind: type[LanguageModel], origin: Mapping[str, Any], mark: str
) -> LanguageModel:
    # A GPU's number means nothing on another machine.
    device = "cpu" if origin["device"] == "cpu" else None
    try:
        lm = kind.load(origin["model"], device=device, dtype=origin["dtype"])
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The pickle leaves out the weights of {origin['model']!r}, which could "
            f"not be loaded here ({str(error).rstrip('.')}). Put the model there; or "
            "save the estimator with save(folder, merged=True), or load what save "
            "wrote with liftlearn.load(folder, base=...)."
        ) from error
    lm._check_fingerprint(mark)
    return lm
