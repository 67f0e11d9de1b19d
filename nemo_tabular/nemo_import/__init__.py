"""What a NeMo user has comes in, a column-coder config or a pickled tokenizer; a Schema or tokenizer leaves.
Neither NeMo nor scikit-learn is imported, and nothing that a pickle names is run.
"""

from nemo_tabular.nemo_import.config import schema_from_nemo
from nemo_tabular.nemo_import.tokenizer import NeMoTokenizer, load_nemo_tokenizer

__all__ = ["NeMoTokenizer", "load_nemo_tokenizer", "schema_from_nemo"]
