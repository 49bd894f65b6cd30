"""P1, P2, P3: three batches of quadratic programs for measuring decision layers, with solutions computed by an active-set method.

Only one vector a row is batched. The scored gradient is that of sum(v x*) in that vector.
"""

from dpsc.types import Instance

SOURCE = "computed row by row: interior point at 1e-11, active set read from the duals, dense solve of its optimality conditions, gradient from the same matrix"

P1 = Instance(
    name="layer_allocation",
    source=SOURCE,
    parameters={"problem": "min c.x + |x|^2, sum x = 1, 0 <= x <= 1; c = 1 + .6 randn(B, 3), then v = randn(B, 3), torch generator seed 0", "items": 3, "regularization": 1.0},
    known={"gradient_norm": {32: 3.744820459, 128: 7.635246441, 1024: 20.953181101}, "first_decision": [0.65200894, 0.07086066, 0.2771304]},
)
P2 = Instance(
    name="layer_replenishment",
    source=SOURCE,
    parameters={
        "problem": "min sum_i w_i/2 (x_i - d_i)^2 + k_i x_i, p.x <= budget, 0 <= x <= u; numpy generator seed 0: w U(.5, 2), k U(0, .5), p U(1, 10), mu U(2, 20); "
        "u = 1.3 mu, budget = .6 p.mu; torch generator seed 1: d = mu exp(.4 randn(B, 50)), then v = randn(B, 50)",
        "items": 50,
        "budget": 1912.957675,
    },
    known={"gradient_norm": {32: 33.480428634, 128: 67.633518852}, "sum": {32: 12484.445665951, 128: 50357.435077049}, "first_decision": [0.0, 1.72017518, 0.0]},
)
P3 = Instance(
    name="layer_dense",
    source=SOURCE,
    parameters={
        "problem": "min x'Px/2 + c.x, G x <= h; numpy generator seed 0: M = N(0,1)^(200x200), P = M M'/200 + .1 I; G = N(0,1)^(50x200)/sqrt(200); x0 ~ N(0, I), "
        "h = G x0 + U(0,1)^50; torch generator seed 1: c = randn(B, 200), v = randn(B, 200)",
        "variables": 200,
        "constraints": 50,
    },
    known={"gradient_norm": {32: 249.256761769}, "absolute_sum": {32: 16368.269911250}, "first_decision": [1.98858205, 1.39388814, -0.84449331]},
)
ALL = (P1, P2, P3)
