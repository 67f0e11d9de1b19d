"""A run's folder, a number of rows and a file's name come in; the synthetic rows are left in the file.
As `nemo-tabular generate` does.

python scripts/generate.py runs/adult 32561 synthetic.csv
"""

import sys

from nemo_tabular import Synthesizer

if __name__ == "__main__":
    run, rows, out = sys.argv[1:]
    Synthesizer.load(run).write(out, int(rows), seed=1)
