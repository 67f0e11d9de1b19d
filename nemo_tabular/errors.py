"""The errors a user can meet: each says where, what and what to do.

All are ValueErrors, so `except ValueError` is enough.
"""


class TabularError(ValueError):
    """Base of every error that a user's input, file or setting can cause."""


class SchemaError(TabularError):
    """A table and its schema do not fit each other, or no schema fits the table."""


class CodecError(TabularError):
    """A value cannot be written as tokens, or tokens cannot be fitted to a column."""


class StoreError(TabularError):
    """A token store is incomplete, damaged, or belongs to another tokenizer."""


class FeatureError(TabularError):
    """A column type is unknown, or does not keep what it promises."""


class ConfigError(TabularError):
    """A setting is unknown, of the wrong type, or impossible together with another."""


class CheckpointError(TabularError):
    """A checkpoint is missing, damaged, or belongs to another model, schema or tokenizer."""


class GenerationError(TabularError):
    """A generation request asks for what the model cannot give."""


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """`" (did you mean 'age'?)"` for the closest known name, or an empty string."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
