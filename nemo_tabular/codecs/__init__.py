"""A column of a table enters; its integer codes, slot by slot, leave: one file a way of writing values."""

from nemo_tabular.codecs.array import ArrayCodec
from nemo_tabular.codecs.base import CODECS, Codec, Slot, codec_from_json, fit_codec
from nemo_tabular.codecs.bytes import BytesCodec
from nemo_tabular.codecs.calendar import CalendarCodec
from nemo_tabular.codecs.category import CategoryCodec
from nemo_tabular.codecs.dense import Cells, DenseCodec, Ragged
from nemo_tabular.codecs.digits import DigitsCodec
from nemo_tabular.codecs.epoch import EpochCodec
from nemo_tabular.codecs.real import RealCodec
from nemo_tabular.codecs.text import TextCodec
from nemo_tabular.codecs.values import ValuesCodec

__all__ = [
    "CODECS",
    "ArrayCodec",
    "BytesCodec",
    "CalendarCodec",
    "CategoryCodec",
    "Cells",
    "Codec",
    "DenseCodec",
    "DigitsCodec",
    "EpochCodec",
    "Ragged",
    "RealCodec",
    "Slot",
    "TextCodec",
    "ValuesCodec",
    "codec_from_json",
    "fit_codec",
]
