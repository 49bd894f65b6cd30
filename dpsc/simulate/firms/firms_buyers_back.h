// The way back of one column, see firms_buyers.h; what is computed is told in firms_columns.h.
#pragma once
#include "firms_buyers.h"

namespace dpsc {

// Stocks before step t from those before step t - 1, whose output and demand are known.
template <class F, class Given>
void rebuild(const Jagged<F> &net, Given given, const F *first, const F *n, const F *rate, const F *x, const F *D, const F *before, const F *from, F *to,
             F *r) {
  const int64_t M = net.places;
  const F *const as = net.a.data(), *const uses = net.use.data();
  const int32_t *const sources = net.src.data();
  for (int64_t i = 0; i < M; i += net.W) Many<F>::store(r + i, share(Many<F>::load(x + i), Many<F>::load(D + i)));
  for (int64_t g = 0; g < net.groups; g++)
    walk(net, g,
      [=](auto lanes, int64_t i) {
        using N = typename decltype(lanes)::Number;
        return Buyer<N>{lanes.load(x + i), N{}, lanes.load(before + i), lanes.load(n + i), lanes.load(rate + i), N{}};
      },
      [=](auto lanes, int64_t e, auto &firm) {
        const auto a = lanes.load(as + e), s = lanes.load(from + e);
        auto served = lanes.load(first + e);
        if constexpr (!given) served = positive(a * firm.before + (lanes.load(uses + e) * firm.n - s) * firm.speed);
        lanes.store(to + e, s + lanes.gather(r, sources + e) * served - a * firm.x);
      },
      [](auto, int64_t, const auto &) {});
}

template <class N> struct Slopes {  // what the edges of a firm have in common, and sums of theirs
  N D, before, n, speed, q, factor;
  N to_x, to_D, to_n, to_rate, low, ties;
};

template <class N> struct Pair {
  N one, other;
};

// See `backward_columns`.
template <class F> void backward_buyers(const Problem<F> &p, const Jagged<F> &net, int64_t col, Space<F> &space) {
  using L = Many<F>;
  using N = typename L::Number;
  const int64_t M = net.places, E = p.E, T = p.T, K = p.interval;
  const F sharpness = F(p.sharpness);
  const bool soft = sharpness > 0, on = p.shock_on_stock, at_target = !p.stock;
  const F *const n = level_of(net, p.inventory, col, space), *const rate = level_of(net, p.rate, col, space);
  const F *const cap = level_of(net, p.cap, col, space), *const ease = level_of(net, p.ease, col, space);
  const Grid<F> x_path{p.x, p.M * p.B, p.B, 1}, D_path{p.D, p.M * p.B, p.B, 1};
  F *const gs = space.take(E), *const go = space.take(E), *const begin_stock = space.take(E), *const first = space.take(E), *const last = space.take(E);
  F *const bonus = soft ? space.take(E) : nullptr, *const pulling = space.take(net.most);
  F *const segment = space.take(std::max<int64_t>(std::min(K, T) - 1, 0) * E);
  const auto zeros = [&](int64_t size) {
    F *made = space.take(size);
    std::fill_n(made, size, F(0));
    return made;
  };
  F *const r = space.take(M), *const gr = space.take(M), *const to_x = space.take(M), *const to_n = space.take(M), *const to_rate = space.take(M);
  F *to_D = space.take(M), *gnext = space.take(M), *q = zeros(M), *low = space.take(M), *D = space.take(M), *before = space.take(M);
  F *const ties = zeros(M), *const factor = zeros(M), *const through = zeros(M), *const own_weight = space.take(M), *const demand_weight = space.take(M);
  F *const g_n = zeros(M), *const g_cap = zeros(M), *const g_rate = zeros(M), *const g_ease = zeros(M), *const g_c = zeros(M), *const gz = space.take(M);
  F *const x = space.take(M), *const z = space.take(M), *const gx = zeros(M), *const gD = zeros(M);
  F *const D_then = space.take(M), *const D_before = space.take(M), *const lowest = space.take(M), *const pace = space.take(M);
  const F *const as = net.a.data(), *const uses = net.use.data(), *const ias = net.ia.data();
  const int32_t *const sources = net.src.data();
  stocks_at_start(p, net, col, n, begin_stock);
  for (int64_t e = 0; e < E; e++) {
    const int64_t from = net.edge[e];
    first[e] = p.order.at(from, col);
    last[e] = p.last_stock[from * p.B + col];
    gs[e] = p.g_last_stock ? p.g_last_stock.at(from, col) : F(0);
    go[e] = p.g_last_order ? p.g_last_order.at(from, col) : F(0);
    if (soft) bonus[e] = F(0);
  }
  read_row(net, p.gD, T, col, gnext);
  read_row(net, D_path, T - 1, col, D);
  int64_t begin = -1;
  const auto stocks = [&](int64_t t) -> const F * {
    if (t == T) return last;
    if (t == 0) return begin_stock;
    return t % K == 0 ? p.kept_of(col, 1, t / K - 1) : segment + (t - begin - 1) * E;
  };
  for (int64_t t = T - 1; t >= 0; t--) {
    if (t / K * K != begin) {
      begin = t / K * K;
      for (int64_t u = begin + 1; u < std::min(begin + K, T); u++) {
        read_row(net, x_path, u - 1, col, x);
        read_row(net, D_path, u - 1, col, D_then);
        if (u > 1) read_row(net, D_path, u - 2, col, D_before);
        if (u > 1) rebuild(net, std::false_type{}, first, n, rate, x, D_then, D_before, stocks(u - 1), segment + (u - begin - 1) * E, r);
        else rebuild(net, std::true_type{}, first, n, rate, x, D_then, D_then, stocks(u - 1), segment + (u - begin - 1) * E, r);
      }
    }
    const F *const S = stocks(t), *const after = stocks(t + 1);
    read_row(net, x_path, t, col, x);
    if (t) read_row(net, D_path, t - 1, col, before);
    if (t == T - 1 || p.z.step) read_row(net, p.z, t, col, z);
    if (p.gx) read_row(net, p.gx, t, col, gx);
    if (p.gD) read_row(net, p.gD, t, col, gD);
    for (int64_t i = 0; i < M; i += net.W) {
      L::store(r + i, share(L::load(x + i), L::load(D + i))), L::store(gr + i, N{});
      L::store(g_c + i, L::load(g_c + i) + L::load(gnext + i));
    }
    if (p.g_c && p.c_steps > 1) write_row(net, p, gnext, p.g_c, t, col);
    // What the step before reads of the paths.
    const int64_t one_back = std::max<int64_t>(t - 1, 0), two_back = std::max<int64_t>(t - 2, 0);
    const F *const z_back = p.z.data + one_back * p.z.step, *const x_back = p.x + one_back * p.M * p.B, *const D_back = p.D + two_back * p.M * p.B;
    const auto step = [&, q, low, D, before, gnext, to_D](auto given, auto smooth) {
      for (int64_t g = 0; g < net.groups; g++) {
        __builtin_prefetch(z_back + g * net.W * p.z.row);
        __builtin_prefetch(x_back + g * net.W * p.B);
        __builtin_prefetch(D_back + g * net.W * p.B);
        if (p.g_z) __builtin_prefetch(p.g_z + (t * p.M + g * net.W) * p.B, 1);
        F *const pull = pulling - net.begin(g);
        walk(net, g,
          [=](auto lanes, int64_t i) {
            using N = typename decltype(lanes)::Number;
            Slopes<N> it{lanes.load(D + i), lanes.load(before + i), lanes.load(n + i), lanes.load(rate + i), lanes.load(q + i), lanes.load(factor + i)};
            if constexpr (lanes.vector)
              it.low += std::numeric_limits<F>::infinity();
            else
              it.to_x = to_x[i], it.to_D = to_D[i], it.to_n = to_n[i], it.to_rate = to_rate[i], it.low = low[i], it.ties = ties[i];
            return it;
          },
          [=](auto lanes, int64_t e, auto &firm) {
            using N = typename decltype(lanes)::Number;
            const N a = lanes.load(as + e), use = lanes.load(uses + e), ia = lanes.load(ias + e), s = lanes.load(S + e), s_after = lanes.load(after + e);
            const N wanted = use * firm.n, gap = wanted - s_after, nothing{}, one = nothing + F(1);
            const N placed = positive(a * firm.before + (wanted - s) * firm.speed), served = given ? lanes.load(first + e) : placed;
            const N extra = smooth ? lanes.load(bonus + e) * (firm.factor * ia) : s_after * ia == firm.q ? firm.factor * ia : nothing;
            const N u = a * firm.D + gap * firm.speed > nothing ? lanes.load(go + e) + lanes.gather(gnext, sources + e) : nothing;
            const N down = u * firm.speed, of_stock = lanes.load(gs + e) + extra - down, allowed = s * ia;
            firm.to_D += a * u;
            firm.to_rate += u * gap;
            firm.to_n += use * (at_target ? extra : down);
            firm.to_x -= a * of_stock;
            lanes.store(pull + e, of_stock * served);
            lanes.store(gs + e, of_stock);
            lanes.store(go + e, lanes.gather(r, sources + e) * of_stock);
            firm.ties = allowed < firm.low ? one : allowed == firm.low ? firm.ties + one : firm.ties;
            firm.low = smaller(firm.low, allowed);
          },
          [=](auto lanes, int64_t i, const auto &firm) {
            lanes.store(to_x + i, firm.to_x), lanes.store(to_D + i, firm.to_D), lanes.store(to_n + i, firm.to_n);
            lanes.store(to_rate + i, firm.to_rate), lanes.store(low + i, firm.low), lanes.store(ties + i, firm.ties);
          });
        add_to_suppliers(net, g, pulling, gr);
      }
    };
    if (soft) t ? step(std::false_type{}, std::true_type{}) : step(std::true_type{}, std::true_type{});
    else t ? step(std::false_type{}, std::false_type{}) : step(std::true_type{}, std::false_type{});
    std::swap(q, low);
    // The firms: who limits whom.
    const N nothing{}, one = nothing + F(1);
    for (int64_t i = 0; i < M; i += net.W) {
      const N d = L::load(D + i), zi = L::load(z + i), allowed = L::load(q + i) * L::load(ease + i), own = zi * L::load(cap + i), pulled = L::load(gr + i);
      const N by_stock = on ? zi * allowed : allowed, lowest = smaller(d, smaller(own, by_stock)), tied = by_stock == lowest ? L::load(ties + i) : nothing;
      L::store(g_n + i, L::load(g_n + i) + L::load(to_n + i)), L::store(g_rate + i, L::load(g_rate + i) + L::load(to_rate + i));
      L::store(to_x + i, L::load(to_x + i) + (L::load(gx + i) + share(pulled, d)));
      L::store(to_D + i, L::load(to_D + i) + (L::load(gD + i) - share<N>(pulled * L::load(r + i), d)));
      L::store(demand_weight + i, d == lowest ? one : nothing), L::store(own_weight + i, own == lowest ? one : nothing);
      L::store(ties + i, tied), L::store(through + i, by_stock == lowest ? tied * L::load(q + i) : nothing);
    }
    if (soft) {  // how close stocks are to binding, the weights of all edges at once, their sums
      for (int64_t i = 0; i < M; i += net.W) {
        const N d = L::load(D + i), zi = L::load(z + i), can = L::load(ease + i), allowed = L::load(q + i) * can, own = zi * L::load(cap + i);
        const N least = smaller(d, smaller(own, on ? zi * allowed : allowed));
        L::store(lowest + i, least), L::store(pace + i, on ? zi * can : can), L::store(ties + i, nothing), L::store(through + i, nothing);
        L::store(demand_weight + i, closeness<F>(least, d)), L::store(own_weight + i, closeness<F>(least, own));
      }
      for (int64_t i = 0; i < M; i++) demand_weight[i] = power(demand_weight[i], sharpness);
      for (int64_t i = 0; i < M; i++) own_weight[i] = power(own_weight[i], sharpness);
      for (int64_t g = 0; g < net.groups; g++)
        walk(net, g,
          [=](auto lanes, int64_t i) { return Pair<typename decltype(lanes)::Number>{lanes.load(lowest + i), lanes.load(pace + i)}; },
          [=](auto lanes, int64_t e, auto &firm) {
            lanes.store(bonus + e, closeness<F>(firm.one, lanes.load(S + e) * lanes.load(ias + e) * firm.other));
          },
          [](auto, int64_t, const auto &) {});
      for (int64_t e = 0; e < E; e++) bonus[e] = power(bonus[e], sharpness);
      for (int64_t g = 0; g < net.groups; g++)
        walk(net, g,
          [=](auto lanes, int64_t i) { return Pair<typename decltype(lanes)::Number>{lanes.load(ties + i), lanes.load(through + i)}; },
          [=](auto lanes, int64_t e, auto &sums) {
            const auto w = lanes.load(bonus + e);
            sums.one += w;
            sums.other += w * (lanes.load(S + e) * lanes.load(ias + e));
          },
          [=](auto lanes, int64_t i, const auto &sums) { lanes.store(ties + i, sums.one), lanes.store(through + i, sums.other); });
    }
    for (int64_t i = 0; i < M; i += net.W) {
      const N zi = L::load(z + i), of_firm = L::load(own_weight + i), of_demand = L::load(demand_weight + i), tied = L::load(ties + i), can = L::load(ease + i);
      const N each = L::load(to_x + i) / (of_demand + of_firm + tied), of_own = of_firm * each, of_stock = each * L::load(through + i);
      L::store(factor + i, tied > nothing ? each * (on ? zi * can : can) : nothing), L::store(to_D + i, L::load(to_D + i) + of_demand * each);
      L::store(g_cap + i, L::load(g_cap + i) + (of_own != nothing ? of_own * zi : nothing));
      L::store(g_ease + i, L::load(g_ease + i) + (on ? of_stock * zi : of_stock));
      L::store(gz + i, (of_own != nothing ? of_own * L::load(cap + i) : nothing) + (on ? of_stock * can : nothing));
    }
    if (p.g_z) write_row(net, p, gz, p.g_z, t, col);
    std::swap(to_D, gnext);
    std::swap(D, before);
  }
  for (int64_t g = 0; g < net.groups; g++)
    for (int b = 0; b < net.lanes[g]; b++) {
      const int64_t i = g * net.W + b;
      net.of(g, b, [&](int64_t e) {
        const F allowed = soft ? bonus[e] * (factor[i] * ias[e]) : begin_stock[e] * ias[e] == q[i] ? factor[i] * ias[e] : F(0);
        const int64_t at = net.edge[e] * p.B + col;
        if (p.g_order) p.g_order[at] = go[e];
        if (p.g_stock) p.g_stock[at] = gs[e] + allowed;
        if (at_target) g_n[i] += uses[e] * (allowed + (p.g_last_stock ? p.g_last_stock.at(net.edge[e], col) : F(0)));
      });
    }
  F *const to[] = {p.g_demand, p.g_inventory, p.g_cap, p.g_rate, p.g_ease, p.c_steps == 1 ? p.g_c : nullptr};
  const F *const found[] = {gnext, g_n, g_cap, g_rate, g_ease, g_c};
  for (int k = 0; k < 6; k++)
    if (to[k]) write_row(net, p, found[k], to[k], 0, col);
}

}  // namespace dpsc
