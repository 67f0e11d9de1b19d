"""Floats come in; each map must rise, come back, and be the published one."""

import numpy as np
import pytest
from sklearn.preprocessing import PowerTransformer

from nemo_tabular.codecs.transforms import TRANSFORMS, YeoJohnson, transform_from_json, transform_to_json

SAMPLES = {
    "normal": np.random.default_rng(0).normal(5, 3, 5_000),
    "lognormal": np.exp(np.random.default_rng(1).normal(3, 1.5, 5_000)),
    "heavy": np.random.default_rng(2).standard_t(3, 5_000) * 1234.567,
    "tiny": np.random.default_rng(3).exponential(1e-9, 5_000),
    "constant": np.full(10, 7.0),
}


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("name", SAMPLES)
def test_rises_and_comes_back(kind: str, name: str) -> None:
    sample = np.sort(SAMPLES[name])
    transform = TRANSFORMS[kind].fit(sample)
    image = transform.forward(sample)
    assert (np.diff(image) >= 0).all()
    assert np.allclose(transform.inverse(image), sample, rtol=1e-7, atol=1e-9 * np.ptp(sample))
    twin = transform_from_json(transform_to_json(transform))
    assert twin == transform and np.array_equal(twin.forward(sample), image)


@pytest.mark.parametrize("name", ["normal", "lognormal", "heavy"])
def test_lambda_is_the_likelihood_s_best(name: str) -> None:
    """Against scikit-learn, on a column that is centred and scaled already: both see the same numbers."""
    sample = SAMPLES[name]
    ours = YeoJohnson.fit(sample)
    scaled = (sample - ours.centre) / ours.scale
    theirs = PowerTransformer(standardize=False).fit(scaled[:, None])
    assert ours.power == pytest.approx(theirs.lambdas_[0], abs=2e-3)
    assert np.allclose(
        YeoJohnson(theirs.lambdas_[0]).forward(scaled), theirs.transform(scaled[:, None])[:, 0]
    )


def test_quantile_makes_even_shares() -> None:
    transform = TRANSFORMS["quantile"].fit(SAMPLES["lognormal"])
    shares = np.histogram(transform.forward(SAMPLES["lognormal"]), np.linspace(0, 1, 11))[0] / 5_000
    assert np.abs(shares - 0.1).max() < 0.005
