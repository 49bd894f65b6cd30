"""Networks of firms in the benchmarks: dpsc, the same model in JAX, ARIO here and in BoARIO. The rivals' functions run without dpsc."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .layers import Arrays, Contender

STEPS, ONSET, TIME, CAPACITY = 100, 5, 10.0, 1.2


def ours(arrays: Arrays, batch: int, gradient: bool) -> Contender:
    """`dpsc.simulate.firms`, float32: the paper's step for 100 steps, and the gradient of a squared error of the aggregate in n and lambda."""
    import torch

    from dpsc.simulate import firms

    s, b, a, c, x0 = (torch.from_numpy(arrays[k]) for k in ("supplier", "buyer", "coefficient", "final_demand", "output"))
    network = firms.Network.of(s, b, a, c, output=x0).to(torch.float32)
    n, rate, size, target = (torch.from_numpy(arrays[k]).float() for k in ("inventory", "rate", "size", "target"))
    n, rate = (v[:, None].expand(-1, batch).clone().requires_grad_() for v in (n, rate))
    total = network.output.sum()

    def aggregate() -> Any:
        z = 1 - firms.exponential(STEPS, onset=ONSET, size=size, rate=rate)
        made = firms.rollout(network, firms.Parameters(n, TIME, CAPACITY), productivity=z)
        return made.output.sum(1) / total

    def call() -> Any:
        if not gradient:
            with torch.no_grad():
                return aggregate()
        path = aggregate()
        loss = (path - target[:, None]).square().sum() / STEPS
        return path.detach(), torch.autograd.grad(loss, (n, rate))

    def answer(found: Any) -> dict[str, Any]:
        path, grads = found if gradient else (found, ())
        out = {"value": path[:, 0].double().numpy()}
        return out | {"gradient": np.stack([g[:, 0].double().numpy() for g in grads])} if gradient else out

    return call, answer


def jax(arrays: Arrays, batch: int, gradient: bool) -> Contender:
    """The same in JAX: sparse, one compiled scan, `vmap` over the batch."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    import jax
    import jax.numpy as jnp

    src, dst = jnp.asarray(arrays["supplier"]), jnp.asarray(arrays["buyer"])
    a, c, x0, n, rate, size, target = (
        jnp.asarray(arrays[k], jnp.float32) for k in ("coefficient", "final_demand", "output", "inventory", "rate", "size", "target")
    )
    firms, use, inverse, most = len(c), a * x0[dst], 1 / a, CAPACITY * x0
    t = jnp.arange(STEPS, dtype=jnp.float32)[:, None]
    blocks = 10 if len(a) > 500_000 else 0  # the stocks of all steps would not fit

    def aggregate(n: Any, rate: Any) -> Any:
        z = 1 - size * jnp.exp(-rate * jnp.maximum(t - ONSET, 0)) * (t >= ONSET)
        aim = n[dst] * use

        def step(state: Any, z_now: Any) -> Any:
            stock, order, demand = state
            allowed = jax.ops.segment_min(stock * inverse, dst, firms, indices_are_sorted=True)
            x = jnp.minimum(demand, z_now * jnp.minimum(most, allowed))
            stock = stock + (x / demand)[src] * order - a * x[dst]
            order = jnp.maximum(a * demand[dst] + (aim - stock) / TIME, 0)
            return (stock, order, c + jax.ops.segment_sum(order, src, firms)), x.sum()

        begin = (aim, use, x0)
        if not blocks:
            made = jax.lax.scan(step, begin, z)[1]
        else:
            inner = jax.checkpoint(lambda s, part: jax.lax.scan(jax.checkpoint(step), s, part))
            made = jax.lax.scan(inner, begin, z.reshape(blocks, -1, firms))[1].reshape(-1)
        return made / x0.sum()

    def loss(n: Any, rate: Any) -> Any:
        path = aggregate(n, rate)
        return jnp.mean((path - target) ** 2), path

    single = batch == 1
    forward = jax.jit(aggregate if single else jax.vmap(aggregate))
    slopes = jax.value_and_grad(loss, (0, 1), has_aux=True)
    both = jax.jit(slopes if single else jax.vmap(slopes))
    values = (n, rate) if single else (jnp.tile(n, (batch, 1)), jnp.tile(rate, (batch, 1)))

    def call() -> Any:
        return jax.block_until_ready(both(*values) if gradient else forward(*values))

    def answer(found: Any) -> dict[str, Any]:
        first = (lambda v: np.asarray(v, float)) if single else (lambda v: np.asarray(v, float)[0])
        if not gradient:
            return {"value": first(found)}
        (_, path), grads = found
        return {"value": first(path), "gradient": np.stack([first(g) for g in grads])}

    return call, answer


def ario(arrays: Arrays, products: int, steps: int) -> Contender:
    """`dpsc.simulate.firms.ario`: so many days of ARIO-psi after a loss of capacity, float64."""
    import torch

    from dpsc.simulate.firms import ario

    flow, final, output, impact = (torch.from_numpy(arrays[k]) for k in ("flow", "final_demand", "output", "impact"))
    economy = ario.Economy.of(flow, final, output, products=products)
    parameters = ario.Parameters(float(arrays["psi"]), float(arrays["time"]), float(arrays["days"]), overproduction=ario.sticky)
    loss = ario.capacity_loss(steps, impact, occurrence=2, duration=10, time=30)
    return lambda: ario.rollout(economy, parameters, horizon=steps, loss=loss).output[..., 0], lambda found: {"value": (found / found[0].sum()).numpy()}


def boario(arrays: Arrays, products: int, steps: int) -> Contender:
    """BoARIO's ARIOPsiModel; a call goes so many steps further in one simulation, because it has no reset."""
    import logging

    import pandas as pd
    import pymrio
    from boario import event
    from boario.extended_models import ARIOPsiModel
    from boario.simulation import Simulation

    logging.disable(logging.CRITICAL)
    count = len(arrays["output"])
    regions = count // products
    index = pd.MultiIndex.from_product([[f"r{i:03d}" for i in range(regions)], [f"s{i:04d}" for i in range(products)]], names=["region", "sector"])
    columns = pd.MultiIndex.from_product([[f"r{i:03d}" for i in range(regions)], ["final"]], names=["region", "category"])
    final = np.zeros((count, regions))
    final[:, 0] = arrays["final_demand"]
    io = pymrio.IOSystem(Z=pd.DataFrame(arrays["flow"], index, index), Y=pd.DataFrame(final, index, columns))
    io.calc_all()
    model = ARIOPsiModel(
        io,
        order_type="noalt",
        psi_param=float(arrays["psi"]),
        inventory_restoration_tau=int(arrays["time"]),
        main_inv_dur=int(arrays["days"]),
    )
    simulation = Simulation(model, n_temporal_units_to_sim=60 * steps, register_stocks=False, show_progress=False)
    hit = arrays["impact"] > 0
    impact = pd.Series(arrays["impact"][hit], index=model.industries[hit])
    simulation.add_event(event.from_series(impact, event_type="arbitrary", occurrence=2, duration=10, recovery_tau=30, recovery_function="linear"))
    done = 0

    def call() -> Any:
        nonlocal done
        for _ in range(steps):
            simulation.next_step()
        done += steps
        return done - steps

    def answer(begin: Any) -> dict[str, Any]:
        found = simulation.production_realised.to_numpy()[begin : begin + steps]
        return {"value": found / found[0].sum()}

    return call, answer
