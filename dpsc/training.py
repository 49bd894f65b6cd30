"""The one optimisation loop, and what it takes to train several models side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpsc import checks, storage
from dpsc.errors import DataError, InputError, ShapeError


@dataclass(frozen=True)
class History:
    """What happened: `loss` `(epochs, ...)`, the mean over each epoch's batches, every one taken before its update; `wall_s` seconds."""

    loss: Tensor
    wall_s: float


@dataclass(frozen=True)
class Checkpoint:
    """Where a long run keeps its state, so that the same call made again continues where it stopped.

    Attributes:
        path: file; written whole or not at all, its content checked on reading.
        modules: name -> module whose state is kept beside that of the optimiser.
        every_s: seconds between two writes; 0 writes after every epoch.
    """

    path: Path
    modules: Mapping[str, nn.Module]
    every_s: float = 60.0


def fit(
    loss: Callable[[Any, float], Tensor],
    *,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Iterable[Any]],
    epochs: int,
    rate: Callable[[float], float] | None = None,
    track: Callable[[Iterable[int]], Iterable[int]] | None = None,
    checkpoint: Checkpoint | None = None,
) -> History:
    """Minimise a loss by stochastic gradients.

    Args:
        loss: `(batch, fraction of training done) -> ` loss; a scalar, or one entry a model trained side by side (their sum is differentiated, so
            each gets its own gradient). The fraction drives schedules, of a relaxation's temperature say.
        optimizer: over the parameters that `loss` reads.
        batches: epoch -> that epoch's batches; a function of the epoch alone, so that a run can be continued.
        epochs: how many.
        rate: fraction of training done -> factor on the optimiser's learning rates, for example `lambda done: 1 - done`; 1 throughout where None.
        track: wraps the iteration over epochs, for a progress bar.
        checkpoint: where to keep and find the state.
    Returns: the loss curve.
    Raises: InputError if a loss is not finite (naming epoch, batch and model), before it can reach the parameters.
    """
    checks.at_least("epochs", epochs, 0)
    start, begin = time.perf_counter(), 0
    curve: list[Tensor] = []
    rates = [group["lr"] for group in optimizer.param_groups]
    if checkpoint is not None and checkpoint.path.exists():
        begin, curve = _restore(checkpoint, optimizer)
    saved = time.perf_counter()
    for epoch in (track or iter)(range(begin, epochs)):
        total, count = None, 0
        listed = list(batches(epoch))
        for i, batch in enumerate(listed):
            optimizer.zero_grad(set_to_none=True)
            done = (epoch + i / len(listed)) / epochs
            if rate is not None:
                for group, full in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = full * rate(done)
            value = loss(batch, done)
            if not bool(torch.isfinite(value).all()):
                which = "" if value.dim() == 0 else f" of model {int((~torch.isfinite(value)).nonzero()[0, 0])}"
                raise InputError(f"the loss{which} must be finite, got {value[~torch.isfinite(value)][0].item()} in epoch {epoch}, batch {i}")
            value.sum().backward()
            optimizer.step()
            total, count = (value.detach() if total is None else total + value.detach()), count + 1
        if total is None:
            raise InputError(f"epoch {epoch} has no batches")
        curve.append(total / count)
        if checkpoint is not None and (time.perf_counter() - saved >= checkpoint.every_s or epoch + 1 == epochs):
            _save(checkpoint, optimizer, epoch + 1, curve)
            saved = time.perf_counter()
    if rate is not None:
        for group, full in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = full
    return History(torch.stack(curve) if curve else torch.zeros(0), time.perf_counter() - start)


def _save(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer, epoch: int, curve: list[Tensor]) -> None:
    modules = {name: m.state_dict() for name, m in checkpoint.modules.items()}
    storage.save(
        checkpoint.path, {"epoch": epoch, "curve": torch.stack(curve), "modules": modules, "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
    )


def _restore(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> tuple[int, list[Tensor]]:
    state = storage.load(checkpoint.path)
    try:
        for name, module in checkpoint.modules.items():
            module.load_state_dict(state["modules"][name])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        device = next((p.device for group in optimizer.param_groups for p in group["params"]), torch.device("cpu"))
        return int(state["epoch"]), list(state["curve"].to(device))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{checkpoint.path} belongs to another run (its modules or their shapes differ): {error}; delete it to start afresh") from error


def least_squares(features: Tensor, targets: Tensor, *, intercept: bool) -> tuple[Tensor, Tensor]:
    """Ordinary least squares, any leading batch of models; the two-stage predictor in closed form.

    Args:
        features: `(..., R, F)`.
        targets: `(..., R, K)`.
        intercept: whether to fit one.
    Returns: weight `(..., K, F)` and bias `(..., K)` (zero without intercept), as in `nn.Linear`; the least-norm solution if features are collinear.
    """
    if features.dim() < 2 or targets.dim() < 2 or features.shape[:-1] != targets.shape[:-1]:
        raise ShapeError(
            f"features (..., R, F) and targets (..., R, K) must share their leading dimensions, got {tuple(features.shape)} and {tuple(targets.shape)}"
        )
    checks.finite("features", features)
    checks.finite("targets", targets)
    x, y = features.double(), targets.double()
    if intercept:
        x = torch.cat([x, torch.ones_like(x[..., :1])], -1)
    theta = torch.linalg.lstsq(x, y, driver="gelsd" if x.device.type == "cpu" else None).solution.mT.to(targets.dtype)
    return (theta[..., :-1], theta[..., -1]) if intercept else (theta, torch.zeros_like(theta[..., 0]))


class Ensemble(nn.Module):
    """G copies of one module, each with its own parameters, evaluated in one call.

    Args:
        members: the modules; same class and shapes.
    Shapes: `(G, b, F)` -> `(G, b, ...)`: member g sees row g. Training the sum of the members' losses trains each on its own.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise InputError("an ensemble needs at least one member, got none")
        try:
            parameters, buffers = torch.func.stack_module_state(list(members))
        except RuntimeError as error:
            raise ShapeError(f"the members of an ensemble must have the same class and shapes: {error}") from error
        self._names = {name: name.replace(".", "/") for name in parameters}
        self.stacked = nn.ParameterDict({self._names[name]: nn.Parameter(p.detach().clone()) for name, p in parameters.items()})
        self._buffer_names = {name: "buffer/" + name.replace(".", "/") for name in buffers}
        for name, value in buffers.items():
            self.register_buffer(self._buffer_names[name], value.detach().clone())
        self._template = [members[0]]  # in a list, so that it is no submodule: its parameters are not ours
        self.size = len(members)

    def parameters_by_name(self) -> dict[str, Tensor]:
        """Name in the member -> stacked parameter `(G, ...)`."""
        return {name: self.stacked[key] for name, key in self._names.items()}

    def buffers_by_name(self) -> dict[str, Tensor]:
        """Name in the member -> stacked buffer `(G, ...)`."""
        return {name: getattr(self, key) for name, key in self._buffer_names.items()}

    def load_by_name(self, values: Mapping[str, Tensor]) -> None:
        """Set the parameters to `(G, ...)` values."""
        checks.exact_names("the ensemble", values, self._names)
        for name, value in values.items():
            checks.same_shape(name, value, "the stacked parameter", self.stacked[self._names[name]])
        with torch.no_grad():
            for name, value in values.items():
                self.stacked[self._names[name]].copy_(value)

    def forward(self, inputs: Tensor) -> Tensor:
        """Evaluate every member on its own rows."""
        if inputs.shape[0] != self.size:
            raise ShapeError(f"inputs must have shape (G, b, F) with G = {self.size} members, got {tuple(inputs.shape)}")

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(self._template[0], (parameters, buffers), (x,))

        return torch.func.vmap(call)(self.parameters_by_name(), self.buffers_by_name(), inputs)
