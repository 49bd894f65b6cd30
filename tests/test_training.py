"""The one optimisation loop: known optima, models side by side, and runs that are interrupted."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dpsc.errors import DataError, DpscError, InputError, ShapeError
from dpsc.training import Checkpoint, Ensemble, History, fit, least_squares

F64 = torch.float64
CURVATURE, OPTIMUM, START = torch.tensor([0.5, 2.0, 4.0], dtype=F64), torch.tensor([1.0, -2.0, 3.0], dtype=F64), torch.tensor([5.0, 5.0, 5.0], dtype=F64)


def quadratic(x: Tensor) -> Tensor:
    """(x - x*)' A (x - x*) / 2 + 7, A diagonal."""
    return 0.5 * (CURVATURE * (x - OPTIMUM) ** 2).sum() + 7


# ------------------------------------------------------------------------------------------------------------------ fit


def test_gradient_descent_on_a_quadratic_follows_its_closed_form_to_the_optimum() -> None:
    x, rate, epochs, batches = nn.Parameter(START.clone()), 0.2, 60, 3
    history = fit(lambda _, __: quadratic(x), optimizer=torch.optim.SGD([x], lr=rate), batches=lambda _: range(batches), epochs=epochs)
    iterates = OPTIMUM + (1 - rate * CURVATURE) ** torch.arange(epochs * batches + 1, dtype=F64)[:, None] * (START - OPTIMUM)
    torch.testing.assert_close(x.detach(), iterates[-1], rtol=0, atol=1e-12)
    torch.testing.assert_close(x.detach(), OPTIMUM, rtol=0, atol=1e-6)
    before_each_update = torch.stack([quadratic(point) for point in iterates[:-1]]).reshape(epochs, batches)
    torch.testing.assert_close(history.loss, before_each_update.mean(1), rtol=1e-13, atol=0)
    assert not history.loss.requires_grad
    assert history.wall_s > 0


def test_batches_and_fraction_of_training_are_passed_on() -> None:
    x, seen = nn.Parameter(torch.zeros((), dtype=F64)), []

    def loss(batch: str, fraction: float) -> Tensor:
        seen.append((batch, fraction))
        return x**2

    fit(loss, optimizer=torch.optim.SGD([x], lr=0.1), batches=lambda epoch: iter([f"{epoch}a", f"{epoch}b"]), epochs=4)
    assert seen == [(f"{epoch}{which}", (epoch + part) / 4) for epoch in range(4) for which, part in (("a", 0), ("b", 0.5))]


def test_track_wraps_the_epochs() -> None:
    x, seen = nn.Parameter(torch.zeros(())), []

    def track(epochs: Any) -> Iterator[int]:
        for epoch in epochs:
            seen.append(epoch)
            yield epoch

    history = fit(lambda _, __: x**2, optimizer=torch.optim.SGD([x], lr=0.1), batches=lambda _: [0], epochs=3, track=track)
    assert seen == [0, 1, 2]
    assert len(history.loss) == 3


def test_no_epochs_change_nothing() -> None:
    x = nn.Parameter(START.clone())
    history = fit(lambda _, __: quadratic(x), optimizer=torch.optim.SGD([x], lr=0.1), batches=lambda _: [0], epochs=0)
    assert len(history.loss) == 0
    assert torch.equal(x.detach(), START)


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, nesterov=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.02),
}


def perceptron(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_models_side_by_side_learn_as_if_alone(name: str) -> None:
    models, rows, epochs = 5, 12, 15
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(models, rows, 4, dtype=F64, generator=generator), torch.randn(models, rows, 2, dtype=F64, generator=generator)
    y = y * torch.logspace(-3, 1, models, dtype=F64)[:, None, None]  # one model's large losses must not move another

    def batches(epoch: int) -> list[slice]:
        return [slice(k, k + 4) for k in range(0, rows, 4)]

    ensemble = Ensemble([perceptron(g) for g in range(models)])
    together = fit(
        lambda rows, _: ((ensemble(x[:, rows]) - y[:, rows]) ** 2).mean((1, 2)),
        optimizer=OPTIMIZERS[name](ensemble.parameters()),
        batches=batches,
        epochs=epochs,
    )
    assert together.loss.shape == (epochs, models)
    for g in range(models):
        model = perceptron(g)

        def loss(rows: slice, _: float, g: int = g, model: nn.Module = model) -> Tensor:
            return ((model(x[g, rows]) - y[g, rows]) ** 2).mean()

        alone = fit(loss, optimizer=OPTIMIZERS[name](model.parameters()), batches=batches, epochs=epochs)
        torch.testing.assert_close(together.loss[:, g], alone.loss, rtol=1e-12, atol=1e-12)
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(ensemble.parameters_by_name()[key][g], parameter, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_named_before_it_reaches_the_parameters(bad: float) -> None:
    x, updates = nn.Parameter(torch.ones(4, dtype=F64)), []

    def loss(batch: tuple[int, int], _: float) -> Tensor:
        updates.append(x.detach().clone())
        return x**2 * torch.tensor([1.0, 1.0, bad if batch == (1, 2) else 1.0, 1.0], dtype=F64)

    with pytest.raises(InputError, match=f"the loss of model 2 must be finite, got {bad} in epoch 1, batch 2"):
        fit(loss, optimizer=torch.optim.SGD([x], lr=0.1), batches=lambda epoch: [(epoch, i) for i in range(3)], epochs=5)
    assert len(updates) == 6
    assert torch.equal(x.detach(), updates[-1])
    assert bool(torch.isfinite(x).all())


def test_a_scalar_loss_that_is_not_finite_has_no_model() -> None:
    x = nn.Parameter(torch.ones(()))
    with pytest.raises(InputError, match=r"^the loss must be finite, got nan in epoch 0, batch 0$"):
        fit(lambda _, __: x * float("nan"), optimizer=torch.optim.SGD([x], lr=0.1), batches=lambda _: [0], epochs=1)


def test_an_epoch_without_batches_and_a_wrong_number_of_epochs_are_refused() -> None:
    x = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([x], lr=0.1)
    with pytest.raises(InputError, match="epoch 1 has no batches"):
        fit(lambda _, __: x**2, optimizer=optimizer, batches=lambda epoch: [0] * (1 - epoch), epochs=2)
    for epochs in (-1, 2.0, True):
        with pytest.raises(InputError, match=f"epochs must be an integer >= 0, got {epochs}"):
            fit(lambda _, __: x**2, optimizer=optimizer, batches=lambda _: [0], epochs=epochs)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- runs that are interrupted

EPOCHS, STEPS = 6, 3


class PowerCut(Exception):
    """What stops a run."""


class Run:
    """A run whose loss draws from torch's global generator, so that its state counts as well."""

    def __init__(self, optimizer: str) -> None:
        self.model = perceptron(0)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.calls = 0
        torch.manual_seed(1)

    def start(self, path: Path, *, stop_at: int | None = None, every_s: float = 0.0) -> History:
        self.calls = 0

        def loss(batch: tuple[int, int], fraction: float) -> Tensor:
            if self.calls == stop_at:
                raise PowerCut
            self.calls += 1
            inputs = torch.randn(8, 4, dtype=F64)
            return ((self.model(inputs) - batch[0] - inputs[:, :2]) ** 2 * (1 + fraction)).mean()

        checkpoint = Checkpoint(path, {"model": self.model}, every_s=every_s)
        return fit(loss, optimizer=self.optimizer, batches=lambda epoch: [(epoch, i) for i in range(STEPS)], epochs=EPOCHS, checkpoint=checkpoint)

    def state(self) -> list[Tensor]:
        moments = [v for s in self.optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
        return [*(p.detach() for p in self.model.parameters()), *moments]


def assert_identical(run: Run, history: History, reference: Run, expected: History) -> None:
    assert torch.equal(history.loss, expected.loss)
    assert len(run.state()) == len(reference.state())
    for got, want in zip(run.state(), reference.state(), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("stop_at", [0, 1, STEPS, STEPS + 1, 2 * STEPS, EPOCHS * STEPS - 1])
def test_an_interrupted_run_started_again_ends_bit_for_bit_as_if_never_interrupted(name: str, stop_at: int, tmp_path: Path) -> None:
    reference = Run(name)
    expected = reference.start(tmp_path / "whole.pt")
    expected_random = torch.rand(3)
    assert reference.calls == EPOCHS * STEPS

    stopped = Run(name)
    with pytest.raises(PowerCut):
        stopped.start(tmp_path / "run.pt", stop_at=stop_at)
    again = Run(name)  # a new process: everything is built afresh
    history = again.start(tmp_path / "run.pt")
    assert again.calls == (EPOCHS - stop_at // STEPS) * STEPS
    assert torch.equal(torch.rand(3), expected_random)
    assert_identical(again, history, reference, expected)

    if stop_at >= STEPS:  # the same objects, whose parameters have moved on since the file was written
        stopped = Run(name)
        (tmp_path / "run.pt").unlink()
        with pytest.raises(PowerCut):
            stopped.start(tmp_path / "run.pt", stop_at=stop_at)
        assert_identical(stopped, stopped.start(tmp_path / "run.pt"), reference, expected)


def test_a_run_interrupted_twice(tmp_path: Path) -> None:
    reference = Run("adam")
    expected = reference.start(tmp_path / "whole.pt")
    for stop_at in (STEPS + 2, 2 * STEPS):
        with pytest.raises(PowerCut):
            Run("adam").start(tmp_path / "run.pt", stop_at=stop_at)
    last = Run("adam")
    history = last.start(tmp_path / "run.pt")
    assert last.calls == (EPOCHS - 3) * STEPS
    assert_identical(last, history, reference, expected)


def test_a_finished_run_started_again_does_nothing(tmp_path: Path) -> None:
    first = Run("adam")
    expected = first.start(tmp_path / "run.pt", every_s=1e9)  # however rarely it is written, the end is
    again = Run("adam")
    history = again.start(tmp_path / "run.pt", stop_at=0)
    assert again.calls == 0
    assert_identical(again, history, first, expected)


def test_between_two_writes_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(PowerCut):
        Run("sgd").start(tmp_path / "run.pt", stop_at=EPOCHS * STEPS - 1, every_s=1e9)
    assert list(tmp_path.iterdir()) == []


def test_side_by_side_curves_are_resumed_too(tmp_path: Path) -> None:
    def start(path: Path, stop_at: int | None) -> History:
        x, calls = nn.Parameter(torch.linspace(1, 2, 3, dtype=F64)), [0]

        def loss(_: int, __: float) -> Tensor:
            if calls[0] == stop_at:
                raise PowerCut
            calls[0] += 1
            return x**2

        holder = nn.Module()
        holder.x = x
        return fit(loss, optimizer=torch.optim.Adam([x], lr=0.1), batches=lambda _: [0, 1], epochs=4, checkpoint=Checkpoint(path, {"x": holder}, every_s=0))

    with pytest.raises(PowerCut):
        start(tmp_path / "run.pt", 5)
    resumed, whole = start(tmp_path / "run.pt", None), start(tmp_path / "whole.pt", None)
    assert whole.loss.shape == (4, 3)
    assert torch.equal(resumed.loss, whole.loss)


def test_a_damaged_checkpoint_stops_the_run_before_it_trains(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    Run("sgd").start(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    run = Run("sgd")
    before = [p.detach().clone() for p in run.model.parameters()]
    with pytest.raises(DataError, match=r"run\.pt is damaged.*delete it to start afresh"):
        run.start(path)
    assert run.calls == 0
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
    assert path.read_bytes() == content


# -------------------------------------------------------------------------------------------------------------- least squares


def by_numpy(x: Tensor, y: Tensor, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    a = x.numpy()
    if intercept:
        a = np.concatenate([a, np.ones_like(a[:, :1])], 1)
    theta = np.linalg.lstsq(a, y.numpy(), rcond=None)[0].T
    return (theta[:, :-1], theta[:, -1]) if intercept else (theta, np.zeros(len(theta)))


@pytest.mark.parametrize("intercept", [False, True])
def test_exact_targets_give_the_coefficients_back(intercept: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    weight, bias, x = (torch.randn(*shape, dtype=F64, generator=generator) for shape in ((2, 3), (2,), (9, 3)))
    bias = bias * intercept
    got_weight, got_bias = least_squares(x, x @ weight.T + bias, intercept=intercept)
    torch.testing.assert_close(got_weight, weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(got_bias, bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["full rank", "equal columns", "a constant column", "a column of zeros", "fewer rows than features", "one row", "spread 1e6"])
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("leading", [(), (1,), (4,), (2, 3)], ids=str)
def test_least_squares_is_numpys_for_every_model_of_a_batch(kind: str, intercept: bool, leading: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(7)
    rows = {"fewer rows than features": 3, "one row": 1}.get(kind, 12)
    x, y = torch.randn(*leading, rows, 5, dtype=F64, generator=generator), torch.randn(*leading, rows, 2, dtype=F64, generator=generator)
    if kind == "equal columns":
        x[..., 1] = x[..., 3]
    elif kind == "a constant column":
        x[..., 2] = 4.0
    elif kind == "a column of zeros":
        x[..., 0] = 0.0
    elif kind == "spread 1e6":
        x = x * torch.logspace(-3, 3, 5, dtype=F64)
    weight, bias = least_squares(x, y, intercept=intercept)
    assert weight.shape == (*leading, 2, 5)
    assert bias.shape == (*leading, 2)
    for i in np.ndindex(leading):
        expected_weight, expected_bias = by_numpy(x[i], y[i], intercept)
        np.testing.assert_allclose(weight[i].numpy(), expected_weight, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(bias[i].numpy(), expected_bias, rtol=1e-9, atol=1e-11)


@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 2**31), st.integers(0, 3))
def test_residuals_are_orthogonal_to_the_features(rows: int, features: int, outputs: int, intercept: bool, seed: int, ties: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, dtype=F64, generator=generator).round(decimals=ties)  # coarse: ties, zeros and collinear columns
    y = torch.randn(rows, outputs, dtype=F64, generator=generator)
    weight, bias = least_squares(x, y, intercept=intercept)
    residual = y - x @ weight.T - bias
    torch.testing.assert_close(x.T @ residual, torch.zeros(features, outputs, dtype=F64), rtol=0, atol=1e-10)
    if intercept:
        torch.testing.assert_close(residual.sum(0), torch.zeros(outputs, dtype=F64), rtol=0, atol=1e-10)
    else:
        assert not bool(bias.any())


def test_least_squares_computes_in_double_and_answers_in_the_type_of_the_targets() -> None:
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(2, 20, 3, generator=generator), torch.randn(2, 20, 1, generator=generator)
    weight, bias = least_squares(x, y, intercept=True)
    exact_weight, exact_bias = least_squares(x.double(), y.double(), intercept=True)
    assert weight.dtype == bias.dtype == torch.float32
    assert torch.equal(weight, exact_weight.float())
    assert torch.equal(bias, exact_bias.float())


def test_no_models_no_coefficients() -> None:
    weight, bias = least_squares(torch.zeros(0, 5, 3), torch.zeros(0, 5, 2), intercept=True)
    assert weight.shape == (0, 2, 3)
    assert bias.shape == (0, 2)


@pytest.mark.parametrize(
    ("features", "targets", "error", "message"),
    [
        ((4, 3), (5, 1), ShapeError, r"features \(\.\.\., R, F\) and targets \(\.\.\., R, K\) must share their leading dimensions, got \(4, 3\) and \(5, 1\)"),
        ((2, 4, 3), (4, 1), ShapeError, r"got \(2, 4, 3\) and \(4, 1\)"),
        ((4,), (4, 1), ShapeError, r"got \(4,\) and \(4, 1\)"),
    ],
)
def test_least_squares_shapes(features: tuple[int, ...], targets: tuple[int, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        least_squares(torch.ones(features), torch.ones(targets), intercept=True)


@pytest.mark.parametrize("which", ["features", "targets"])
def test_least_squares_names_what_is_not_finite(which: str) -> None:
    given = {"features": torch.ones(4, 2), "targets": torch.ones(4, 2)}
    given[which][2, 1] = float("nan")
    with pytest.raises(InputError, match=rf"{which} must be finite, got 1 of 8 entries NaN or infinite, the first, nan, at index \(2, 1\)"):
        least_squares(**given, intercept=False)


# ------------------------------------------------------------------------------------------------------------------ ensemble


def members(kind: str, count: int) -> list[nn.Module]:
    torch.manual_seed(11)
    return [nn.Linear(4, 2).double() if kind == "linear" else perceptron(g) for g in range(count)]


@pytest.mark.parametrize("kind", ["linear", "perceptron"])
@pytest.mark.parametrize(("count", "rows"), [(1, 5), (3, 1), (4, 7), (2, 0)])
def test_an_ensemble_is_its_members(kind: str, count: int, rows: int) -> None:
    alone = members(kind, count)
    ensemble = Ensemble(alone)
    x = torch.randn(count, rows, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    v = torch.randn(count, rows, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    out = ensemble(x)
    torch.testing.assert_close(out, torch.stack([m(x[g]) for g, m in enumerate(alone)]), rtol=1e-12, atol=1e-12)
    assert ensemble.size == count
    (out * v).sum().backward()
    for g, member in enumerate(alone):
        gradients = torch.autograd.grad((member(x[g]) * v[g]).sum(), list(member.parameters()))
        for (name, _), gradient in zip(member.named_parameters(), gradients, strict=True):
            stacked = ensemble.parameters_by_name()[name].grad
            assert stacked is not None
            torch.testing.assert_close(stacked[g], gradient, rtol=1e-12, atol=1e-12)


def test_an_ensemble_owns_copies() -> None:
    alone = members("perceptron", 3)
    ensemble = Ensemble(alone)
    x = torch.ones(3, 2, 4, dtype=F64)
    before = ensemble(x)
    with torch.no_grad():
        for member in alone:
            for p in member.parameters():
                p.fill_(9.0)
    assert torch.equal(ensemble(x), before)
    assert sum(p.numel() for p in ensemble.parameters()) == 3 * sum(p.numel() for p in alone[0].parameters())
    ours = {id(p) for p in ensemble.parameters()}
    assert not ours & {id(p) for member in alone for p in member.parameters()}


def test_an_ensembles_state_can_be_saved_and_loaded() -> None:
    first, second = Ensemble(members("perceptron", 2)), Ensemble([perceptron(8), perceptron(9)])
    x = torch.ones(2, 3, 4, dtype=F64)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))
    third = Ensemble([perceptron(8), perceptron(9)])
    third.load_by_name({name: p.detach().clone() for name, p in first.parameters_by_name().items()})
    assert torch.equal(first(x), third(x))
    assert set(third.parameters_by_name()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_ensemble_errors() -> None:
    with pytest.raises(InputError, match="an ensemble needs at least one member, got none"):
        Ensemble([])
    ensemble = Ensemble(members("linear", 3))
    with pytest.raises(ShapeError, match=r"inputs must have shape \(G, b, F\) with G = 3 members, got \(2, 5, 4\)"):
        ensemble(torch.ones(2, 5, 4, dtype=F64))
    values = {name: p.detach() for name, p in ensemble.parameters_by_name().items()}
    with pytest.raises(InputError, match=r"the ensemble takes the parameters weight, bias; missing bias"):
        ensemble.load_by_name({"weight": values["weight"]})
    with pytest.raises(InputError, match=r"missing weight; unknown wieght \(did you mean weight\?\)"):
        ensemble.load_by_name({"wieght": values["weight"], "bias": values["bias"]})


@pytest.mark.parametrize("shape", [(), (1, 1, 2), (1, 2)])
def test_load_by_name_does_not_broadcast(shape):
    ensemble = Ensemble([nn.Linear(2, 1) for _ in range(3)])
    with pytest.raises(ShapeError):
        ensemble.load_by_name({"weight": torch.ones(shape), "bias": torch.ones(3, 1)})


def test_load_by_name_wrong_shape_is_a_shape_error():
    with pytest.raises(ShapeError):
        Ensemble([nn.Linear(2, 1) for _ in range(3)]).load_by_name({"weight": torch.ones(2, 1, 2), "bias": torch.ones(3, 1)})


def test_members_of_different_shape_are_a_shape_error():
    with pytest.raises(DpscError):
        Ensemble([nn.Linear(2, 1), nn.Linear(3, 1)])


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.register_buffer("scale", torch.tensor([scale, scale]))

    def forward(self, x):
        return self.linear(x * self.scale)


def test_ensemble_buffers_are_part_of_its_state_and_move_with_it():
    ensemble = Ensemble([Scaled(1.0), Scaled(2.0)])
    assert any("scale" in name for name in ensemble.state_dict())
    assert all(b.dtype == F64 for b in ensemble.double().buffers_by_name().values())


def test_a_checkpoint_of_another_run_is_a_data_error(tmp_path):
    def start(name, model):
        fit(
            lambda _, __: model(torch.ones(1, 2)).sum() ** 2,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            batches=lambda _: [0],
            epochs=1,
            checkpoint=Checkpoint(tmp_path / "c.pt", {name: model}),
        )

    start("a", nn.Linear(2, 1))
    for name, model in (("b", nn.Linear(2, 1)), ("a", nn.Linear(2, 3))):
        with pytest.raises(DpscError):
            start(name, model)
