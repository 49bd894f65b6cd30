// The run of one column: buyers side by side fill a vector, edge by edge. The same numbers as in firms_columns.h, in the same order.
// Inside, firms have the numbers of their places in `Jagged`.
#pragma once
#include <type_traits>

#include "firms_problem.h"

namespace dpsc {

// Numbers of the firms for one column, by place.
template <class F> void read_row(const Jagged<F> &net, const Grid<F> &from, int64_t t, int64_t col, F *to) {
  if (!from) {
    std::fill_n(to, net.places, F(0));
    return;
  }
  const F *const row = from.data + t * from.step + col * from.column;
  const int32_t *const buyer = net.buyer.data();
  const int64_t M = net.places, distance = from.row;
  if (!distance) {
    std::fill_n(to, M, *row);
  } else if (distance == 1) {
    for (int64_t i = 0; i < M; i += net.W) Many<F>::store(to + i, Many<F>::gather(row, buyer + i));
  } else {
    for (int64_t i = 0; i < M; i++) to[i] = row[buyer[i] * distance];
  }
}
template <class F> void write_row(const Jagged<F> &net, const Problem<F> &p, const F *from, F *to, int64_t t, int64_t col) {
  F *const row = to + t * p.M * p.B + col;
  for (int64_t k = 0; k < p.M; k++) row[net.buyer[k] * p.B] = from[k];
}
template <class F> F *level_of(const Jagged<F> &net, const Grid<F> &from, int64_t col, Space<F> &space) {
  F *const room = space.take(net.places);
  read_row(net, from, 0, col, room);
  return room;
}

// The edges of group g: as vectors where all buyers have one, then one by one. `firms(lanes, i)` is what the edges of the firms from place i on need and add
// up, `edge(lanes, e, it)` works on it, `keep(lanes, i, it)` stores the sums; where `lanes` is One, `firms` begins with what is stored.
template <class F, class Firms, class Edge, class Keep> inline void walk(const Jagged<F> &net, int64_t g, Firms firms, Edge edge, Keep keep) {
  const int64_t i = g * net.W;
  int64_t s = net.first[g] + net.full[g], e = net.begin(g);
  {
    auto all = firms(Many<F>{}, i);
    for (int k = 0; k < net.full[g]; k++, e += net.W) edge(Many<F>{}, e, all);
    keep(Many<F>{}, i, all);
  }
  for (; s < net.first[g + 1]; s++)
    for (int64_t b = i; e < net.start[s + 1]; e++, b++) {
      auto one = firms(One<F>{}, b);
      edge(One<F>{}, e, one);
      keep(One<F>{}, b, one);
    }
}

// values: of the edges of group g.
template <class F> inline void add_to_suppliers(const Jagged<F> &net, int64_t g, const F *values, F *sum) {
  values -= net.begin(g);
  const int32_t *const src = net.src.data();
  for (int b = 0; b < net.lanes[g]; b++) net.of(g, b, [&](int64_t e) { sum[src[e]] += values[e]; });
}

template <class F> void stocks_at_start(const Problem<F> &p, const Jagged<F> &net, int64_t col, const F *n, F *S) {
  for (int64_t g = 0; g < net.groups; g++)
    for (int64_t s = net.first[g]; s < net.first[g + 1]; s++)
      for (int64_t e = net.start[s], i = g * net.W; e < net.start[s + 1]; e++, i++) S[e] = p.stock ? p.stock.at(net.edge[e], col) : net.use[e] * n[i];
}

template <class N> inline N share(N part, N whole) { return whole > N{} ? part / whole : N{}; }

template <class N> struct Buyer {  // what the edges of a firm have in common, and the smallest of S / a
  N x, D, before, n, speed, low;
};

template <class F> void forward_buyers(const Problem<F> &p, const Jagged<F> &net, int64_t col, Space<F> &space) {
  using L = Many<F>;
  using N = typename L::Number;
  const int64_t M = net.places, E = p.E, T = p.T;
  const bool on = p.shock_on_stock;
  const F *const n = level_of(net, p.inventory, col, space), *const rate = level_of(net, p.rate, col, space);
  const F *const cap = level_of(net, p.cap, col, space), *const ease = level_of(net, p.ease, col, space);
  F *D = level_of(net, p.demand, col, space), *next = space.take(M), *before = space.take(M);
  F *const z = space.take(M), *const c = level_of(net, p.c, col, space), *const x = space.take(M), *const q = space.take(M), *const r = space.take(M);
  F *const work = space.take(E), *const first = space.take(E), *const placing = space.take(net.most);
  const F *const as = net.a.data(), *const uses = net.use.data(), *const ias = net.ia.data();
  const int32_t *const sources = net.src.data();
  stocks_at_start(p, net, col, n, work);
  std::fill_n(q, M, std::numeric_limits<F>::infinity());
  std::fill_n(before, M, F(0));
  for (int64_t g = 0; g < net.groups; g++)
    for (int b = 0; b < net.lanes[g]; b++) net.of(g, b, [&](int64_t e) { q[g * net.W + b] = smaller(q[g * net.W + b], work[e] * ias[e]); });
  for (int64_t e = 0; e < E; e++) first[e] = p.order.at(net.edge[e], col);
  const F *from = work;
  for (int64_t t = 0; t < T; t++) {
    if (!t || p.z.step) read_row(net, p.z, t, col, z);
    if (t && p.c_steps > 1) read_row(net, p.c, t, col, c);
    for (int64_t i = 0; i < M; i += net.W) {
      const N d = L::load(D + i), zi = L::load(z + i), by_stock = L::load(q + i) * L::load(ease + i);
      const N made = smaller(d, smaller(zi * L::load(cap + i), on ? zi * by_stock : by_stock));
      L::store(x + i, made), L::store(r + i, share<N>(made, d)), L::store(next + i, L::load(c + i));
    }
    write_row(net, p, x, p.x, t, col);
    write_row(net, p, D, p.D, t, col);
    F *const to = p.kept && t + 1 < T && (t + 1) % p.interval == 0 ? p.kept_of(col, 1, (t + 1) / p.interval - 1) : work;
    // What the next step reads and writes of the paths.
    const int64_t ahead = t + 1 < T ? p.M * p.B : 0;
    const F *const z_ahead = p.z.data + (ahead ? t + 1 : t) * p.z.step;
    const F *const x_ahead = p.x + t * p.M * p.B + ahead, *const D_ahead = p.D + (t + 1) * p.M * p.B;
    const auto step = [&](auto given) {
      for (int64_t g = 0; g < net.groups; g++) {
        __builtin_prefetch(z_ahead + g * net.W * p.z.row);
        __builtin_prefetch(x_ahead + g * net.W * p.B, 1);
        __builtin_prefetch(D_ahead + g * net.W * p.B, 1);
        F *const orders = placing - net.begin(g);
        walk(net, g,
          [=](auto lanes, int64_t i) {
            using N = typename decltype(lanes)::Number;
            const N low = lanes.vector ? N{} + std::numeric_limits<F>::infinity() : lanes.load(q + i);
            return Buyer<N>{lanes.load(x + i), lanes.load(D + i), lanes.load(before + i), lanes.load(n + i), lanes.load(rate + i), low};
          },
          [=](auto lanes, int64_t e, auto &firm) {
            const auto a = lanes.load(as + e), s = lanes.load(from + e), wanted = lanes.load(uses + e) * firm.n;
            auto served = lanes.load(first + e);
            if constexpr (!given) served = positive(a * firm.before + (wanted - s) * firm.speed);
            const auto stock = s + lanes.gather(r, sources + e) * served - a * firm.x;
            lanes.store(to + e, stock);
            lanes.store(orders + e, positive(a * firm.D + (wanted - stock) * firm.speed));
            firm.low = smaller(firm.low, stock * lanes.load(ias + e));
          },
          [=](auto lanes, int64_t i, const auto &firm) { lanes.store(q + i, firm.low); });
        add_to_suppliers(net, g, placing, next);
      }
    };
    if (t) step(std::false_type{});
    else step(std::true_type{});
    from = to;
    std::swap(before, D);
    std::swap(D, next);
  }
  write_row(net, p, D, p.D, T, col);
  for (int64_t g = 0; g < net.groups; g++)
    for (int64_t s = net.first[g]; s < net.first[g + 1]; s++)
      for (int64_t e = net.start[s], i = g * net.W; e < net.start[s + 1]; e++, i++) {
        const int64_t at = net.edge[e] * p.B + col;
        p.last_stock[at] = from[e];
        p.last_order[at] = positive(as[e] * before[i] + (uses[e] * n[i] - from[e]) * rate[i]);
      }
}

}  // namespace dpsc
