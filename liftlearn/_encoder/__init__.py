"""Table to sentences: a pandas table goes in, prompts come out."""

from liftlearn._encoder._row_encoder import RowEncoder

__all__ = ["RowEncoder"]
