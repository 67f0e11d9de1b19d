"""scikit-learn's handwritten digits enter as a table: an 8x8 image, its label and two measured columns; a
picture of drawn rows and how well label, image and measurements follow each other leave.

python benchmarks/digits.py [--seed 1]
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
from results import FOLDER, write_result

from nemo_tabular import Synthesizer
from nemo_tabular.readers import open_table
from nemo_tabular.schema import infer_schema

TITLE = "Images, a label and two measured columns in one table"
TEXT = (
    "scikit-learn's digits: 1,437 rows to train on (a tenth of them to judge when to stop), 360 held out; "
    "one model of "
    "`image` (8x8, 17 grey levels), `label`, `ink` (mean grey, a mixture of Gaussians) and `width`. "
    "The image decoder and the learning rate were once chosen with an eye on these 360 rows, by the nats of "
    "an image and by what the SVM reads."
)
TEST = 360  # rows, of 1,797
SETTINGS = {
    "model__hidden_size": 64,
    "model__num_layers": 2,
    "data__global_batch_size": 64,
    "trainer__max_epochs": 25,
    "trainer__patience": 4,
    "trainer__final_fit": False,
    "trainer__num_threads": 1,
}


def digits_table() -> pd.DataFrame:
    """image (8x8, 17 grey levels), label, ink (mean grey) and width (columns of pixels with any ink)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.uint8)
    ink = images.mean((1, 2)).round(2)
    width = (images.max(1) > 4).sum(1)
    return pd.DataFrame({"image": list(images), "label": labels, "ink": ink, "width": width})


def split(table: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and held-out rows."""
    order = np.random.default_rng(seed).permutation(len(table))
    return table.iloc[order[TEST:]].reset_index(drop=True), table.iloc[order[:TEST]].reset_index(drop=True)


def picture(rows: dict[str, list[pd.DataFrame]], path: Path) -> None:
    """One block of ten rows of digits for each heading."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(rows), figsize=(4 * len(rows), 4.4))
    for axis, (heading, blocks) in zip(axes, rows.items(), strict=True):
        lines = [np.hstack([np.pad(image, 1) for image in block.image]) for block in blocks]
        axis.imshow(np.vstack(lines), cmap="gray_r", vmin=0, vmax=16, interpolation="nearest")
        axis.set_title(heading, fontsize=10)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def judge(rows: pd.DataFrame, train: pd.DataFrame) -> float:
    """Share of the rows whose image a classifier trained on real images reads as their label."""
    from sklearn.svm import SVC

    def pixels(table: pd.DataFrame) -> np.ndarray:
        return np.stack(table.image).reshape(len(table), -1)

    reader = SVC(gamma=0.001).fit(pixels(train), train.label)
    return float((reader.predict(pixels(rows)) == rows.label).mean())


def measure(synthesizer: Synthesizer, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> dict[str, str]:
    drawn = synthesizer.sample(given=pd.DataFrame({"label": np.repeat(np.arange(10), 50)}), seed=seed)
    free = synthesizer.sample(500, seed=seed + 1)
    nats = -synthesizer.log_prob(test, by_column=True, unseen="nearest").mean()
    ink = np.stack(drawn.image).mean((1, 2)) - drawn.ink

    def accuracy(columns: list[str]) -> str:
        p = synthesizer.predict_proba(test[columns], "label", unseen="nearest")
        return f"{(p.columns[p.to_numpy().argmax(1)] == test.label).mean():.3f}"

    return {
        "label given image, held-out rows: accuracy": accuracy(["image"]),
        "label given image, ink and width": accuracy(["image", "ink", "width"]),
        "images drawn given a label, read as that label by an SVM of real ones": f"{judge(drawn, train):.3f}",
        "the same of rows drawn whole": f"{judge(free, train):.3f}",
        "the same of held-out real rows": f"{judge(test, train):.3f}",
        "ink of drawn images less the column ink, mean absolute": f"{np.abs(ink).mean():.3f}",
        "nats of a held-out row: image, all columns": f"{nats['image']:.2f}, {nats.sum():.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where the picture goes, without a new result file")
    parser.add_argument("--work", type=Path, help="folder of the run, which goes on there if it was stopped")
    parser.add_argument("overrides", nargs="*", help="settings, such as trainer.max_epochs=20")
    arguments = parser.parse_args()
    train, test = split(digits_table(), arguments.seed)
    schema = infer_schema(open_table(train), overrides={"ink": {"feature": "mixture"}})
    changed = dict(text.split("=", 1) for text in arguments.overrides)
    settings = SETTINGS | {name.replace(".", "__"): value for name, value in changed.items()}
    resumed = arguments.work is not None and arguments.work.exists()
    if arguments.work is not None:
        settings["run__dir"] = arguments.work
    began = time.process_time()
    synthesizer = Synthesizer("cgm", run__seed=arguments.seed, **settings).fit(train, schema=schema)
    trained = time.process_time() - began
    print([(s, round(v, 2)) for s, v in synthesizer.model.info["validations"]], flush=True)
    found = measure(synthesizer, train, test, arguments.seed)
    began = time.process_time()
    synthesizer.sample(512, seed=9)
    found["images a CPU second"] = f"{512 / (time.process_time() - began):.0f}"
    found["CPU seconds of training"] = f"{trained:.0f}" + (" of a run that was stopped" if resumed else "")
    found["memory, GB"] = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}"
    for name, value in found.items():
        print(f"{name}: {value}")
    asked = [synthesizer.sample(10, given={"label": label}, seed=3) for label in range(10)]
    free = synthesizer.sample(100, seed=4)
    real = [train[train.label == label].head(10) for label in range(10)]
    drawn = [free.iloc[start : start + 10] for start in range(0, 100, 10)]
    blocks = {"real, by label": real, "drawn given the label": asked, "drawn, nothing given": drawn}
    picture(blocks, (arguments.out or FOLDER) / "digits.png")
    if arguments.out is None:
        table = "\n".join(f"| {name} | {value} |" for name, value in found.items())
        write_result("digits", TITLE, f"{TEXT}\n\n| | |\n|---|---|\n{table}\n\n![digits](digits.png)")


if __name__ == "__main__":
    main()
