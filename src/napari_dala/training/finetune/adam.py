"""Adam for a run of seconds: torch's kernel without `torch.optim`, whose first use imports torch._dynamo in 1.4 s."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

_BETAS, _EPS = (0.9, 0.999), 1e-8  # torch's defaults


class FusedAdam:
    """Adam (Kingma and Ba 2015) whose weights are drawn back to where they began.

    After each step they go a part ``lr * penalty`` of that way: the gradient of a squared distance, decoupled from
    Adam's scaling as weight decay is in AdamW.

    Parameters
    ----------
    parameters
        On the processor, float32; all of them have a gradient at each step.
    lr
        Learning rate.
    penalty
        0 for plain Adam.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, penalty: float = 0.0) -> None:
        self.parameters = list(parameters)
        self.lr, self.penalty = lr, penalty
        self._origin = [parameter.detach().clone() for parameter in self.parameters]
        self._means, self._squares = ([torch.zeros_like(each) for each in self._origin] for _ in range(2))
        self._steps = [torch.zeros(()) for _ in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Take a step and clear the gradients."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        torch._foreach_add_(self._steps, 1)
        torch._fused_adam_(
            self.parameters,
            gradients,
            self._means,
            self._squares,
            [],
            self._steps,
            lr=self.lr,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            weight_decay=0.0,
            eps=_EPS,
            amsgrad=False,
            maximize=False,
        )
        if self.penalty:
            torch._foreach_lerp_(self.parameters, self._origin, self.lr * self.penalty)
        for parameter in self.parameters:
            parameter.grad = None
