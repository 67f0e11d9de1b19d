"""A column of a table enters; its integer codes, slot by slot, leave: one file for each way of writing values as tokens."""

from nemo_tabular.codecs.base import CODECS, Codec, Slot, codec_from_json, fit_codec
from nemo_tabular.codecs.category import CategoryCodec
from nemo_tabular.codecs.digits import DigitsCodec
from nemo_tabular.codecs.values import ValuesCodec

__all__ = [
    "CODECS",
    "CategoryCodec",
    "Codec",
    "DigitsCodec",
    "Slot",
    "ValuesCodec",
    "codec_from_json",
    "fit_codec",
]
