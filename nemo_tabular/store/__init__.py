"""A table comes in; a token store leaves: Megatron's `.bin/.idx` of each split, a tokenizer, a manifest.
`prepare` writes one, `TokenStore.open` reads one.
"""

from nemo_tabular.store.groups import row_hash
from nemo_tabular.store.manifest import FileStamp, Manifest, SplitSize
from nemo_tabular.store.view import Documents, TokenStore, Windows
from nemo_tabular.store.writer import prepare

__all__ = ["Documents", "FileStamp", "Manifest", "SplitSize", "TokenStore", "Windows", "prepare", "row_hash"]
