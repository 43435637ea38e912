"""The scanned digits that scikit-learn ships: real data that works offline.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998, the test part, as in
scikit-learn's `load_digits`.
"""

import numpy as np
from sklearn.datasets import load_digits

from peregrine.data.base import Loaded, Options
from peregrine.dataset import Dataset, Splits, stratified_split
from peregrine.preprocess import Preprocess

_TEST_FRACTION = 0.2
_SEED = 0  # not the user's: the test split is part of the data and never changes


def fetch() -> None:
    """Nothing to fetch; see `Source`."""
    return


def load(options: Options) -> Loaded:
    """1,797 images 8×8 of ten classes as RGB, grey 0..16 scaled to 0..255; see `Source`. The ids are `digits/17`."""
    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=3)
    if options.size:
        images = Preprocess(size=options.size, resize=options.resize).fit_array(images)
    labels = bunch.target.astype(np.int64)
    ids = np.array([f"digits/{index}" for index in range(len(labels))])
    whole = Dataset(images, labels, ids, tuple(str(name) for name in bunch.target_names))
    train, test = stratified_split(labels, _TEST_FRACTION, _SEED)
    return Loaded(Splits(whole.subset(train), None, whole.subset(test)))
