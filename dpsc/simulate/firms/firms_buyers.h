// The run of one column: W buyers fill a vector, edge by edge. The same numbers as in firms_columns.h, in the same order.
#pragma once
#include "firms_problem.h"

namespace dpsc {

// Row t of a path (., M, B) for one column, contiguous: itself if there is one column only, else `room`.
template <class F> inline F *row_of(F *path, int64_t t, const Problem<F> &p, F *room) { return p.B == 1 ? path + t * p.M : room; }
template <class F> inline void load_row(const F *path, int64_t t, int64_t col, const Problem<F> &p, F *row) {
  if (p.B > 1)
    for (int64_t i = 0; i < p.M; i++) row[i] = path[(t * p.M + i) * p.B + col];
}
template <class F> inline void store_row(F *path, int64_t t, int64_t col, const Problem<F> &p, const F *row) {
  if (p.B > 1)
    for (int64_t i = 0; i < p.M; i++) path[(t * p.M + i) * p.B + col] = row[i];
}

// What the buyers of a group are like: gathered once a group and step.
template <class F, int W> inline void gather(const F *from, const int32_t *buyer, F *to) { DPSC_LANES to[b] = from[buyer[b]]; }

template <class F, int W> void stocks_at_start(const Problem<F> &p, const Jagged<F, W> &net, int64_t col, const F *n, F *S) {
  for (int64_t g = 0; g < net.groups; g++)
    for (int64_t s = net.first[g]; s < net.first[g + 1]; s++)
      for (int64_t e = net.start[s], b = 0; e < net.start[s + 1]; e++, b++)
        S[e] = p.stock ? p.stock.at(net.edge[e], col) : net.use[e] * n[net.buyer[g * W + b]];
}

// Calls lane(e, b) for every edge of group g: slots that all buyers fill as vectors.
template <class F, int W, class Lane> inline void slots(const Jagged<F, W> &net, int64_t g, Lane lane) {
  int64_t s = net.first[g];
  int64_t e = net.start[s];
  for (int k = 0; k < net.full[g]; k++, s++, e += W) DPSC_LANES lane(e + b, b);
  for (; s < net.first[g + 1]; s++)
    for (int b = 0; e < net.start[s + 1]; e++, b++) lane(e, b);
}

template <class F, int W> inline void add_to_suppliers(const Problem<F> &p, const Jagged<F, W> &net, int64_t g, const F *value, F *sum) {
  for (int b = 0; b < net.lanes[g]; b++) {
    const int64_t i = net.buyer[g * W + b];
    net.of(g, b, p.ptr[i + 1] - p.ptr[i], [&](int64_t e) { sum[net.src[e]] += value[e]; });
  }
}

template <class F, int W> void forward_buyers(const Problem<F> &p, const Jagged<F, W> &net, int64_t col, Space<F> &space) {
  const int64_t M = p.M, E = p.E, T = p.T;
  const F *n = level<F, 1>(p.inventory, M, col, space), *rate = level<F, 1>(p.rate, M, col, space);
  const F *cap = level<F, 1>(p.cap, M, col, space), *ease = level<F, 1>(p.ease, M, col, space);
  const F *demand = level<F, 1>(p.demand, M, col, space);
  Row<F, 1> z_row(p.z, M, col, space, true), c_row(p.c, M, col, space, true);
  F *const work = space.take(E), *const O = space.take(E), *const q = space.take(M), *const r = space.take(M);
  F *const x_room = space.take(M), *D_room = space.take(M), *next_room = space.take(M);
  stocks_at_start(p, net, col, n, work);
  for (int64_t e = 0; e < E; e++) O[e] = p.order.at(net.edge[e], col);
  for (int64_t g = 0; g < net.groups; g++) {
    F low[W];
    DPSC_LANES low[b] = std::numeric_limits<F>::infinity();
    slots(net, g, [&](int64_t e, int b) { low[b] = smaller(low[b], work[e] * net.ia[e]); });
    for (int b = 0; b < net.lanes[g]; b++) q[net.buyer[g * W + b]] = low[b];
  }
  std::copy_n(demand, M, row_of(p.D, 0, p, D_room));
  const F *from = work;
  const F *const as = net.a.data(), *const uses = net.use.data(), *const ias = net.ia.data();
  const int32_t *const sources = net.src.data();
  for (int64_t t = 0; t < T; t++) {
    const F *z = z_row.at(t), *c = c_row.at(p.c_steps > 1 ? t : 0);
    F *const x = row_of(p.x, t, p, x_room), *const D = row_of(p.D, t, p, D_room), *const next = row_of(p.D, t + 1, p, next_room);
    const bool on = p.shock_on_stock;
    DPSC_FIRMS {
      const F d = D[i], by_stock = q[i] * ease[i];
      const F made = smaller(d, smaller(z[i] * cap[i], on ? z[i] * by_stock : by_stock));
      x[i] = made;
      r[i] = d > F(0) ? made / d : F(0);
      next[i] = c[i];
    }
    store_row(p.x, t, col, p, x);
    store_row(p.D, t, col, p, D);
    F *const to = p.kept && t + 1 < T && (t + 1) % p.interval == 0 ? p.kept_of(col, 1, (t + 1) / p.interval - 1) : work;
    for (int64_t g = 0; g < net.groups; g++) {
      const int32_t *buyer = &net.buyer[g * W];
      F low[W], xi[W], Di[W], speed[W], ni[W];
      gather<F, W>(x, buyer, xi), gather<F, W>(D, buyer, Di), gather<F, W>(rate, buyer, speed), gather<F, W>(n, buyer, ni);
      DPSC_LANES low[b] = std::numeric_limits<F>::infinity();
      slots(net, g, [&](int64_t e, int b) {
        const F a = as[e], stock = from[e] + r[sources[e]] * O[e] - a * xi[b];
        to[e] = stock;
        O[e] = positive(a * Di[b] + (uses[e] * ni[b] - stock) * speed[b]);
        low[b] = smaller(low[b], stock * ias[e]);
      });
      for (int b = 0; b < net.lanes[g]; b++) q[buyer[b]] = low[b];
      add_to_suppliers(p, net, g, O, next);
    }
    from = to;
    std::swap(D_room, next_room);
  }
  store_row(p.D, T, col, p, D_room);
  for (int64_t e = 0; e < E; e++) {
    p.last_stock[int64_t(net.edge[e]) * p.B + col] = from[e];
    p.last_order[int64_t(net.edge[e]) * p.B + col] = O[e];
  }
}

// See `rebuild` in firms_columns.h.
template <class F, int W>
void rebuild(const Problem<F> &p, const Jagged<F, W> &net, int64_t t, const F *first, const F *n, const F *rate, const F *x, const F *D, const F *before,
             const F *from, F *to, F *r) {
  const int64_t M = p.M;
  DPSC_FIRMS r[i] = D[i] > F(0) ? x[i] / D[i] : F(0);
  for (int64_t g = 0; g < net.groups; g++) {
    const int32_t *buyer = &net.buyer[g * W];
    F xi[W], Db[W], speed[W], ni[W];
    gather<F, W>(x, buyer, xi), gather<F, W>(rate, buyer, speed), gather<F, W>(n, buyer, ni);
    if (t > 1) {
      gather<F, W>(before, buyer, Db);
      slots(net, g, [&](int64_t e, int b) {
        const F a = net.a[e], s = from[e], served = positive(a * Db[b] + (net.use[e] * ni[b] - s) * speed[b]);
        to[e] = s + r[net.src[e]] * served - a * xi[b];
      });
    } else {
      slots(net, g, [&](int64_t e, int b) { to[e] = from[e] + r[net.src[e]] * first[e] - net.a[e] * xi[b]; });
    }
  }
}

// See `backward_columns`.
template <class F, int W> void backward_buyers(const Problem<F> &p, const Jagged<F, W> &net, int64_t col, Space<F> &space) {
  const int64_t M = p.M, E = p.E, T = p.T, K = p.interval;
  const bool soft = p.sharpness > 0, on = p.shock_on_stock, at_target = !p.stock;
  const F *n = level<F, 1>(p.inventory, M, col, space), *rate = level<F, 1>(p.rate, M, col, space);
  const F *cap = level<F, 1>(p.cap, M, col, space), *ease = level<F, 1>(p.ease, M, col, space);
  Row<F, 1> z_row(p.z, M, col, space, true), gx_row(p.gx, M, col, space, true), gD_row(p.gD, M, col, space, true);
  F *const gs = space.take(E), *const go = space.take(E), *const begin_stock = space.take(E), *const begin_order = space.take(E), *const pull = space.take(E);
  F *const last = space.take(E), *const bonus = soft ? space.take(E) : nullptr, *const segment = space.take(std::max<int64_t>(std::min(K, T) - 1, 0) * E);
  const auto zeros = [&](int64_t size) {
    F *made = space.take(size);
    std::fill_n(made, size, F(0));
    return made;
  };
  F *r = space.take(M), *gr = space.take(M), *to_x = space.take(M), *to_D = space.take(M), *gnext = space.take(M);
  F *q = zeros(M), *ties = zeros(M), *factor = zeros(M), *through = zeros(M), *own_weight = space.take(M), *demand_weight = space.take(M);
  F *g_n = zeros(M), *g_cap = zeros(M), *g_rate = zeros(M), *g_ease = zeros(M), *g_c = zeros(M), *gz_room = space.take(M);
  F *x_room = space.take(M), *D_room = space.take(M), *before_room = space.take(M);
  stocks_at_start(p, net, col, n, begin_stock);
  for (int64_t e = 0; e < E; e++) {
    const int64_t from = net.edge[e];
    begin_order[e] = p.order.at(from, col);
    last[e] = p.last_stock[from * p.B + col];
    gs[e] = p.g_last_stock ? p.g_last_stock.at(from, col) : F(0);
    go[e] = p.g_last_order ? p.g_last_order.at(from, col) : F(0);
    if (soft) bonus[e] = F(0);
  }
  std::copy_n(gD_row.at(T), M, gnext);
  int64_t begin = -1;
  const auto stocks = [&](int64_t t) -> const F * {
    if (t == T) return last;
    if (t == 0) return begin_stock;
    return t % K == 0 ? p.kept_of(col, 1, t / K - 1) : segment + (t - begin - 1) * E;
  };
  const auto path = [&](F *values, int64_t t, F *room) -> const F * {
    load_row(values, t, col, p, room);
    return row_of(values, t, p, room);
  };
  const F *const as = net.a.data(), *const uses = net.use.data(), *const ias = net.ia.data();
  const int32_t *const sources = net.src.data();
  for (int64_t t = T - 1; t >= 0; t--) {
    if (t / K * K != begin) {
      begin = t / K * K;
      for (int64_t u = begin + 1; u < std::min(begin + K, T); u++)
        rebuild(p, net, u, begin_order, n, rate, path(p.x, u - 1, x_room), path(p.D, u - 1, D_room), u > 1 ? path(p.D, u - 2, before_room) : nullptr,
                stocks(u - 1), segment + (u - begin - 1) * E, r);
    }
    const F *const S = stocks(t), *const after = stocks(t + 1);
    const F *const x = path(p.x, t, x_room), *const D = path(p.D, t, D_room), *const before = t ? path(p.D, t - 1, before_room) : D;
    DPSC_FIRMS {
      r[i] = D[i] > F(0) ? x[i] / D[i] : F(0);
      gr[i] = F(0);
    }
    if (p.g_c && p.c_steps > 1)
      for (int64_t i = 0; i < M; i++) p.g_c[(t * M + i) * p.B + col] = gnext[i];
    else
      DPSC_FIRMS g_c[i] += gnext[i];
    for (int64_t g = 0; g < net.groups; g++) {
      const int32_t *buyer = &net.buyer[g * W];
      F dx[W], dD[W], dn[W], dr[W], low[W], count[W], Di[W], Db[W], speed[W], ni[W], qi[W], fi[W];
      gather<F, W>(D, buyer, Di), gather<F, W>(before, buyer, Db), gather<F, W>(rate, buyer, speed), gather<F, W>(n, buyer, ni);
      gather<F, W>(q, buyer, qi), gather<F, W>(factor, buyer, fi);
      DPSC_LANES {
        dx[b] = dD[b] = dn[b] = dr[b] = count[b] = F(0);
        low[b] = std::numeric_limits<F>::infinity();
      }
      const auto edge = [&](int64_t e, int b, F served, F extra) {
        const F a = as[e], use = uses[e], gap = use * ni[b] - after[e];
        const F u = a * Di[b] + gap * speed[b] > F(0) ? go[e] + gnext[sources[e]] : F(0);
        const F down = u * speed[b], of_stock = gs[e] + extra - down, allowed = S[e] * ias[e];
        dD[b] += a * u;
        dr[b] += u * gap;
        dn[b] += use * (at_target ? extra : down);
        dx[b] -= a * of_stock;
        pull[e] = of_stock * served;
        gs[e] = of_stock;
        go[e] = r[sources[e]] * of_stock;
        count[b] = allowed < low[b] ? F(1) : allowed == low[b] ? count[b] + F(1) : count[b];
        low[b] = smaller(low[b], allowed);
      };
      const auto placed = [&](int64_t e, int b) { return positive(as[e] * Db[b] + (uses[e] * ni[b] - S[e]) * speed[b]); };
      const auto allowed_for = [&](int64_t e, int b) { return after[e] * ias[e] == qi[b] ? fi[b] * ias[e] : F(0); };
      if (soft && t)
        slots(net, g, [&](int64_t e, int b) { edge(e, b, placed(e, b), bonus[e]); });
      else if (soft)
        slots(net, g, [&](int64_t e, int b) { edge(e, b, begin_order[e], bonus[e]); });
      else if (t)
        slots(net, g, [&](int64_t e, int b) { edge(e, b, placed(e, b), allowed_for(e, b)); });
      else
        slots(net, g, [&](int64_t e, int b) { edge(e, b, begin_order[e], allowed_for(e, b)); });
      for (int b = 0; b < net.lanes[g]; b++) {
        const int64_t i = buyer[b];
        to_x[i] = dx[b], to_D[i] = dD[b], q[i] = low[b], ties[i] = count[b];
        g_n[i] += dn[b], g_rate[i] += dr[b];
      }
      add_to_suppliers(p, net, g, pull, gr);
    }
    // The firms: who limits whom.
    const F *const z = z_row.at(t), *const gx = gx_row.at(t), *const gD = gD_row.at(t);
    F *const gz = p.g_z ? row_of(p.g_z, t, p, gz_room) : gz_room;
    DPSC_FIRMS {
      const F d = D[i], own = z[i] * cap[i], allowed = q[i] * ease[i], by_stock = on ? z[i] * allowed : allowed;
      const F lowest = smaller(d, smaller(own, by_stock)), asked = d > F(0) ? gr[i] / d : F(0);
      to_x[i] += gx[i] + asked;
      to_D[i] += gD[i] - (d > F(0) ? gr[i] * r[i] / d : F(0));
      demand_weight[i] = F(d == lowest);
      own_weight[i] = F(own == lowest);
      ties[i] = by_stock == lowest ? ties[i] : F(0);
      through[i] = by_stock == lowest ? ties[i] * q[i] : F(0);
    }
    if (soft)
      for (int64_t g = 0; g < net.groups; g++)
        for (int b = 0; b < net.lanes[g]; b++) {
          const int64_t i = net.buyer[g * W + b];
          const F share = on ? z[i] * ease[i] : ease[i], own = z[i] * cap[i], allowed = q[i] * ease[i];
          const F lowest = smaller(D[i], smaller(own, on ? z[i] * allowed : allowed));
          demand_weight[i] = weight(lowest, D[i], p.sharpness);
          own_weight[i] = weight(lowest, own, p.sharpness);
          F total = F(0), sum = F(0);
          net.of(g, b, p.ptr[i + 1] - p.ptr[i], [&](int64_t e) {
            const F here = S[e] * ias[e], w = weight(lowest, here * share, p.sharpness);
            bonus[e] = w;
            total += w;
            sum += w * here;
          });
          ties[i] = total;
          through[i] = sum;
        }
    DPSC_FIRMS {
      const F each = to_x[i] / (demand_weight[i] + own_weight[i] + ties[i]), of_own = own_weight[i] * each, of_stock = each * through[i];
      factor[i] = ties[i] > F(0) ? each * (on ? z[i] * ease[i] : ease[i]) : F(0);
      to_D[i] += demand_weight[i] * each;
      g_cap[i] += of_own != F(0) ? of_own * z[i] : F(0);
      g_ease[i] += on ? of_stock * z[i] : of_stock;
      gz[i] = (of_own != F(0) ? of_own * cap[i] : F(0)) + (on ? of_stock * ease[i] : F(0));
    }
    if (p.g_z) store_row(p.g_z, t, col, p, gz);
    if (soft)
      for (int64_t g = 0; g < net.groups; g++)
        slots(net, g, [&](int64_t e, int b) { bonus[e] *= factor[net.buyer[g * W + b]] * ias[e]; });
    std::swap(to_D, gnext);
  }
  for (int64_t g = 0; g < net.groups; g++)
    for (int b = 0; b < net.lanes[g]; b++) {
      const int64_t i = net.buyer[g * W + b];
      net.of(g, b, p.ptr[i + 1] - p.ptr[i], [&](int64_t e) {
        const F allowed = soft ? bonus[e] : begin_stock[e] * ias[e] == q[i] ? factor[i] * ias[e] : F(0);
        const int64_t at = int64_t(net.edge[e]) * p.B + col;
        if (p.g_order) p.g_order[at] = go[e];
        if (p.g_stock) p.g_stock[at] = gs[e] + allowed;
        if (at_target) g_n[i] += uses[e] * (allowed + (p.g_last_stock ? p.g_last_stock.at(net.edge[e], col) : F(0)));
      });
    }
  const auto out = [&](F *to, const F *found) {
    if (!to) return;
    for (int64_t i = 0; i < M; i++) to[i * p.B + col] = found[i];
  };
  out(p.g_demand, gnext), out(p.g_inventory, g_n), out(p.g_cap, g_cap), out(p.g_rate, g_rate), out(p.g_ease, g_ease);
  if (p.c_steps == 1) out(p.g_c, g_c);
}

}  // namespace dpsc
