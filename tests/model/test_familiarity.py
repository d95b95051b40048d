from __future__ import annotations

import torch

from napari_dala.model.familiarity import Familiarity


def means(logs: torch.Tensor) -> torch.Tensor:
    """Channel means whose logarithms scatter like this."""
    return (logs + 3).exp() - 0.1


def test_what_lies_off_the_training_directions_is_unfamiliar() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.linalg.qr(torch.randn(2048, 80, generator=generator))[0][:, :8]
    logs = torch.randn(300, 8, generator=generator) @ plane.T * 10 + torch.randn(300, 2048, generator=generator) * 0.1
    known = means(logs)
    found = Familiarity.fit(known[:200], directions=8)
    assert torch.allclose(found.directions.T @ found.directions, torch.eye(8), atol=1e-4)
    assert found.ratio(known[:200]).median() == torch.tensor(1.0)
    other = means(logs[200:] + torch.randn(100, 2048, generator=generator))
    doubled = found.with_limit(2.0)
    assert (doubled.ratio(known[200:]) < 1).all()
    assert (doubled.ratio(other) > 1).all()
    assert torch.allclose(doubled.ratio(other), found.ratio(other) / 2)
    far = means(logs[200:] + 50 * plane[:, 0])  # along a direction that training tiles vary in, and twice as far
    assert (doubled.ratio(far) < 1).all(), "only what the directions leave counts"
