"""The temperature that makes a model's probabilities mean what they say (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_RANGE = (0.05, 20.0)


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the number that logits are divided by for the least negative log-likelihood.

    Parameters
    ----------
    logits
        (n, C), of examples that the model was not trained on.
    labels
        (n,) class of each.

    Returns
    -------
    float
        0.05 to 20: logits that know nothing come to 20 and probabilities near 1 / C.
    """
    logits, labels = np.asarray(logits, float), np.asarray(labels, int)

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(loss, bounds=np.log(_RANGE).tolist(), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
