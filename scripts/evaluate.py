"""Real, unseen real and synthetic rows come in; their scores are printed. As `nemo-tabular evaluate` does.

python scripts/evaluate.py adult_train.csv adult_test.csv synthetic.csv
"""

import sys

from nemo_tabular.evaluate import evaluate

if __name__ == "__main__":
    train, test, synthetic = sys.argv[1:]
    print(evaluate(train, test, synthetic))
