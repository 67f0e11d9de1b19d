"""A table's file and a folder come in; a token store is left in the folder. As `nemo-tabular prepare` does.

python scripts/prepare.py adult.csv data/adult
"""

import sys

from nemo_tabular.store import prepare

if __name__ == "__main__":
    table, out = sys.argv[1:]
    store = prepare(table, out)
    print(f"{out}: {', '.join(store.splits)}, {store.tokenizer.num_slots} tokens a row")
