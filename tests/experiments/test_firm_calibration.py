"""The firm-level calibration problems and their flows, small."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor

from dpsc.calibrate import Diagonal, FirmBlocks, Flow, Guide, Hierarchy, LowRank, effective_from_jacobian, hold_then_decay, infer, silent
from dpsc.errors import InputError
from dpsc.relax import Exact
from dpsc.simulate import firms
from dpsc.types import Relaxation
from experiments import coverage, firm_ranks, guide_starts, noise_floor, recovery, svi_vs_abc
from experiments.context import RunContext
from experiments.firm_cases import FITTED, NOISE, annealed, drawn, simulator, stored

# Loss x 1e4 of the truth and of the prior's centre (fitted, later, fresh shock), as the reference protocol prints them.
PRINTED = {
    (300, 10, 1): (0.043, (60.7, 1.29, 10.3)),
    (300, 10, 2): (0.042, (33.0, 0.667, 11.1)),
    (300, 10, 3): (0.045, (110.5, 8.40, 32.4)),
    (300, 1, 1): (0.049, (58.2, 0.777, 9.54)),
    (300, 300, 1): (0.039, (185, 7.54, 45.8)),
}


@pytest.mark.parametrize("key", PRINTED)
def test_the_stored_cases_have_the_printed_losses(key: tuple[int, int, int]) -> None:
    case = stored(*key)
    floor, centre = PRINTED[key]
    assert case.floor == pytest.approx(floor, abs=6e-4)
    assert case.losses(torch.zeros(2 * key[0], 1))[:, 0].tolist() == pytest.approx(centre, rel=6e-3)


def test_the_stored_parameters_are_those_of_the_generator() -> None:
    case = stored(300, 10, 1)
    inventory, rate, size = firms.draw(300, seed=1)
    torch.testing.assert_close(case.size.double(), size, rtol=1e-6, atol=0)
    values = case.prior.values(case.truth[:, None].double())
    torch.testing.assert_close(values["inventory"][:, 0], inventory, rtol=1e-5, atol=0)
    torch.testing.assert_close(values["rate"][:, 0], rate, rtol=1e-5, atol=0)
    assert torch.equal(case.sector, torch.from_numpy(numpy.random.default_rng(5).integers(0, 10, 300)))


def test_a_fresh_case_is_the_stored_one_but_for_its_noise() -> None:
    fresh, kept = drawn(300, 10, 1), stored(300, 10, 1)
    torch.testing.assert_close(fresh.fresh_series, kept.fresh_series, rtol=1e-5, atol=0)
    error = (fresh.series - kept.series) / NOISE / 2**0.5  # two independent errors
    assert abs(float(error.std()) - 1) < 0.1


def test_an_unknown_case_is_refused() -> None:
    with pytest.raises(InputError, match="case must be one of M1000_NS20_s1"):
        stored(300, 10, 9)


def test_straight_through_changes_the_gradient_and_nothing_else() -> None:
    case = drawn(40, 4, 3)
    simulate = case.simulator()
    u = torch.zeros(80, 1, requires_grad=True)
    soft, hard = simulate(u, relax=annealed((4.0, 64.0), 0.7)(0.0)), simulate(u, relax=Exact())
    assert torch.equal(soft, hard)
    blind, seeing = (torch.autograd.grad(series.square().sum(), u)[0][:40] for series in (hard, soft))
    assert float((blind != 0).double().mean()) < 0.6 < float((seeing != 0).double().mean())


def test_jacobian_rows_and_silent_parameters_agree() -> None:
    case = drawn(30, 3, 2, dtype=torch.float64)
    jacobian, products = recovery.jacobian_at_truth(case)
    assert products == (FITTED - 5) * 3
    assert torch.equal(silent(jacobian), recovery.silent_at_truth(case))
    direction = torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step, simulate = 1e-6 * direction, case.simulator()
    both = simulate(torch.stack([case.truth + step, case.truth - step], 1), relax=Exact()) / NOISE
    slope = ((both[..., 0] - both[..., 1]) / 2e-6).reshape(-1)
    torch.testing.assert_close(jacobian @ direction, slope, atol=1e-4 * float(slope.abs().max()), rtol=0)
    assert 0 < effective_from_jacobian(jacobian) < 60
    whole, runs = recovery.swept_at_truth(case, FITTED - 5)
    assert whole.number == pytest.approx(effective_from_jacobian(jacobian), rel=1e-7)  # a condition number of 1e8
    assert 0.35 * products < runs < 0.5 * products


# ------------------------------------------------------------------------------------------------------------------ flows


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return RunContext(folder=tmp_path, seed=0, device=torch.device("cpu"))


ADAM = functools.partial(torch.optim.Adam, lr=0.2, betas=(0.8, 0.99))
SHAPE = {"hold": 0.5, "power": 3.0, "sharpness": [4.0, 64.0], "sharpen_until": 0.7}


def test_noise_floor_comes_down(context: RunContext) -> None:
    outcome = noise_floor.run(context=context, cases=[[300, 1, 1]], evaluations=40, optimizer=ADAM, **SHAPE)
    assert outcome.metrics["worst_ratio_to_floor"] < 10, "from 1,200 at the prior's centre"
    assert outcome.metrics["most_evaluations"] == 40


def test_guides_start_at_gauss_newton_posteriors(context: RunContext) -> None:
    outcome = guide_starts.run(
        context=context,
        firms=30,
        sectors=3,
        first_seed=7,
        data_sets=1,
        starts=[1, 2],
        search_evaluations=[60, 60],
        search_rate=0.1,
        fit_evaluations=60,
        fit_rate=0.1,
        guessed_scale=0.1,
        guessed_rate=0.1,
        rank=4,
        draws=199,
        **SHAPE,
    )
    rows = {(row["start"], row["family"], row["state"]): row for row in outcome.tables["data_sets"].to_dict("records")}
    assert len(rows) == 2 * 2 * len(guide_starts.FAMILIES) + 2
    jacobian = min(40 * 3, 60) + 1
    assert rows["laplace_1", "diagonal", "alone"]["evaluations"] == 60 + jacobian
    assert rows["laplace_2", "informed", "fitted"]["evaluations"] == 60 + 2 * jacobian + 60
    assert rows["guessed", "low_rank", "fitted"]["evaluations"] == 60 + 60
    alone = [rows["laplace_1", family, "alone"]["all"] for family in guide_starts.FAMILIES]
    assert max(alone) - min(alone) < 0.1, "the families start with the same intervals, but for their draws"
    assert outcome.metrics["coverage_all_laplace_2_diagonal_alone"] > outcome.metrics["coverage_all_laplace_1_diagonal_alone"]
    assert outcome.metrics["coverage_all_laplace_1_diagonal_alone"] > outcome.metrics["coverage_all_laplace_1_diagonal_fitted"]


def test_svi_passes_abc_on_a_small_budget(context: RunContext) -> None:
    recipe = svi_vs_abc.Recipe(tries=10, narrow=0.5, steps=30, rate=0.2, scale_rate=0.02, scale=0.02, weight=0.25, **SHAPE)
    outcome = svi_vs_abc.run(
        context=context,
        cases=[[300, 10, 2], [300, 1, 1]],
        recipe=recipe,
        repeats=2,
        draws=4,
        checkpoints=[10, 15, 20, 40],
        abc_evaluations=100,
        abc_keep=8,
        abc_batch=25,
        population=25,
    )
    assert outcome.metrics["geometric_mean_ratio"] > 1
    assert set(outcome.figures) == {"curves", "cascades"}
    assert outcome.metrics["evaluations_to_pass_abc"] <= 40
    fitted = [row for row in outcome.tables["methods"].to_dict("records") if row["method"] == "variational"]
    assert [row["evaluations"] for row in fitted] == [40, 40], "every evaluation is counted, scoring is not"
    rows = [row for row in outcome.tables["methods"].to_dict("records") if row["data set"] == "M300_NS10_s2"]
    best = [row for row in rows if row["method"] == "rejection, its best draw"]
    assert [row["evaluations"] for row in best] == [100, 100], "rejection is run as often as the guide is fitted"
    assert best[0]["fitted_x1e4"] != best[1]["fitted_x1e4"]
    mean = {name: (best[0][f"{name}_x1e4"] + best[1][f"{name}_x1e4"]) / 2 for name in ("fitted", "later", "shock")}
    assert outcome.metrics["ratio_m300_ns10_s2"] == pytest.approx(mean["fitted"] / rows[0]["fitted_x1e4"])
    for kind, name in (("time", "later"), ("shock", "shock")):
        assert outcome.metrics[f"oos_{kind}_wins"] == (rows[0][f"{name}_x1e4"] < mean[name])
        assert outcome.metrics[f"oos_{kind}_wins_one_draw"] == (rows[0][f"{name}_x1e4"] < best[0][f"{name}_x1e4"])
        assert 0 <= outcome.metrics[f"oos_{kind}_chance_of_all_against_one_draw"] <= 1 + 1e-12


def test_the_best_of_some_draws_of_a_pool() -> None:
    assert svi_vs_abc.chances(4, 2, 4).tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 6, 0])
    assert svi_vs_abc.chances(5, 5, 3).tolist() == [1, 0, 0], "one run is its own pool"
    assert float(svi_vs_abc.chances(90_000, 30_000, 100).sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("family", ["diagonal", "low rank", "blocks of firms", "flow"])
def test_every_family_fits_a_network_of_firms_whose_sectors_are_tied(family: str) -> None:
    case = drawn(40, 4, 3)
    tied = Hierarchy(case.prior, {name: case.sector for name in case.prior.blocks}, share=0.5)
    assert tied.dimension == 2 * (4 + 40)
    zero = torch.zeros(tied.dimension, 1)
    guide: Guide = {
        "diagonal": lambda: Diagonal(zero, scale=0.1),
        "low rank": lambda: LowRank(zero, scale=0.1, rank=4),
        "blocks of firms": lambda: FirmBlocks(zero, scale=0.1, firms=44),
        "flow": lambda: Flow(zero, scale=0.1, hidden=16),
    }[family]()
    observed = case.simulator()

    def simulate(latent: Tensor, *, relax: Relaxation) -> Tensor:
        return observed(tied(latent), relax=relax)

    def expected() -> float:
        return float(case.losses(tied(guide.sample(64, seed=5)))[0].mean())

    before = expected()
    made = infer(
        simulate, case.observations, guide, steps=150, optimizer=functools.partial(torch.optim.Adam, lr=0.05), reading=annealed([4.0, 64.0], 0.7),
        particles=4, rate=hold_then_decay(0.5, 3.0),
    )  # fmt: skip
    assert made.evaluations == 600
    assert float(made.loss[-10:].mean()) < 0.2 * float(made.loss[:5].mean())
    assert expected() < 0.1 * before


def test_coverage_counts_data_sets(context: RunContext) -> None:
    outcome = coverage.run(
        context=context,
        firms=30,
        sectors=3,
        first_seed=1,
        data_sets=2,
        members=39,
        steps=25,
        sbc_firms=30,
        sbc_first_seed=11,
        sbc_data_sets=4,
        sbc_members=9,
        sbc_steps=15,
        sbc_again_first_seed=21,
        sbc_again_data_sets=3,
        bins=10,
        learn=functools.partial(firm_ranks.learn, steps=20, batch=32, width=16, depth=1, components=2, optimizer=ADAM, seed=1),
        optimizer=ADAM,
        **SHAPE,
    )
    assert 0.7 < outcome.metrics["coverage_all"] <= 1
    for name in ("sbc_p_min", "sbc_p_min_again", "sbc_p_min_ensemble"):
        assert 0 <= outcome.metrics[name] <= 1
    assert outcome.metrics["sbc_ratio_to_floor_ensemble"] > 1
    table = outcome.tables["posteriors"]
    assert table["learnt_p"].min() == outcome.metrics["sbc_p_min"]
    assert outcome.metrics["evaluations_a_data_set"] == 39 * 25


def test_functionals_are_the_declared_ones() -> None:
    case = drawn(30, 3, 1)
    u = torch.arange(60.0)[:, None]
    values = [float(v) for v in firm_ranks.functionals(case.network, case.size[:, None], u)]
    largest = max((i for i in range(30) if case.hit[i]), key=lambda i: float(case.network.output[i]))
    hit = [30 + i for i in range(30) if case.hit[i]]
    assert values == pytest.approx([sum(hit) / len(hit), 14.5, 30 + largest])


def test_shocks_of_each_column_are_those_of_runs_apart() -> None:
    cases = [drawn(30, 3, seed) for seed in (1, 2)]
    together = simulator(cases[0].network, cases[0].sector, torch.stack([case.size for case in cases], 1), FITTED)
    clean = together(torch.stack([case.truth for case in cases], 1), relax=Exact())
    for column, case in enumerate(cases):
        torch.testing.assert_close(clean[..., column], case.simulator()(case.truth[:, None], relax=Exact())[..., 0], atol=1e-5, rtol=0)


def test_declared_numbers_of_many_data_sets_are_those_of_each() -> None:
    cases = [drawn(30, 3, seed) for seed in (1, 2, 3)]
    size, truth = torch.stack([case.size for case in cases], 1), torch.stack([case.truth for case in cases], 1)
    apart = torch.cat([firm_ranks.functionals(case.network, case.size[:, None], case.truth[:, None]) for case in cases], 1)
    torch.testing.assert_close(firm_ranks.functionals(cases[0].network, size, truth), apart)
    series = torch.stack([case.series for case in cases], -1)
    torch.testing.assert_close(firm_ranks.encode(cases[0].network, cases[0].sector, size, series), torch.cat([firm_ranks.known(case) for case in cases], 1))


def test_what_is_learnt_from_has_the_law_of_the_data_sets_that_are_judged() -> None:
    cases = [drawn(30, 3, seed) for seed in range(300)]
    seen, wanted = firm_ranks.fresh(cases[0], 4000, seed=1)(0)
    judged = torch.cat([firm_ranks.known(case) for case in cases], 1)
    truth = torch.cat([firm_ranks.functionals(case.network, case.size[:, None], case.truth[:, None]) for case in cases], 1)
    for ours, theirs in ((seen, judged), (wanted, truth)):
        ours, theirs = ours.double(), theirs.double()
        spread, share = ours.std(1), 1 / 300 + 1 / 4000
        assert bool(((ours.mean(1) - theirs.mean(1)).abs() <= 5 * spread * share**0.5 + 1e-9).all())
        varied = spread > 1e-6
        peak = ((ours - ours.mean(1, keepdim=True)) / spread[:, None])[varied].pow(4).mean(1)  # kurtosis: how well 300 tell a spread
        assert bool(((theirs.std(1) / spread - 1)[varied].abs() <= 5 * ((peak - 1) / 4 * share).sqrt()).all())
    repeated, _ = firm_ranks.fresh(cases[0], 4000, seed=1)(0)
    assert torch.equal(seen, repeated)
    other, _ = firm_ranks.fresh(cases[0], 4000, seed=1)(1)
    assert not torch.equal(seen, other)


def test_recovery_of_a_small_network(context: RunContext) -> None:
    outcome = recovery.run(context=context, case=[300, 300, 1], evaluations=3, optimizer=ADAM, identify=[[300, 1, 1]], sweep=10, **SHAPE)
    assert outcome.metrics["effective_m300_ns1"] == pytest.approx(33.2, rel=2e-3)
    assert outcome.metrics["identifiable_stocks"] == 156
    told = outcome.tables["firms"]
    assert (len(told), int(told["stock_silent"].sum())) == (300, 144)
    assert bool((told["stock_known"][told["stock_silent"]] < 1e-9).all())
    assert told["rate_silent"].equals(~told["hit"]), "the rate of every firm that was hit leaves a trace, and of no other"
    assert bool(told["stock_known"].is_monotonic_increasing)
    assert outcome.metrics["effective_swept_m300_ns1"] > 8.7  # of nine periods that tell something each tells all it can
