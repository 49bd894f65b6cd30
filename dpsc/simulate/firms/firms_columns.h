// Whole runs of W columns at once: the columns of an edge fill a vector. W = 1 serves networks too large to be copied.
#pragma once
#include "firms_problem.h"

namespace dpsc {

// Targets, or the stocks given.
template <class F, int W> void stocks_at_start(const Problem<F> &p, const Listed<F> &net, int64_t col, const F *n, F *S) {
  for (int64_t k = 0; k < p.M; k++) {
    const int64_t i = net.firm(k);
    for (int64_t e = net.ptr[k]; e < net.ptr[k + 1]; e++)
      for (int b = 0; b < W; b++) S[e * W + b] = p.stock ? p.stock.at(net.place(e), col + b) : net.use[e] * n[i * W + b];
  }
}

template <class F, int W> void forward_columns(const Problem<F> &p, const Listed<F> &net, int64_t col, Space<F> &space) {
  const int64_t B = p.B, M = p.M, E = p.E, T = p.T;
  const bool in_place = W == B && !net.edge;
  F *const work = in_place ? p.last_stock : space.take(E * W);
  const F *n = level<F, W>(p.inventory, M, col, space), *rate = level<F, W>(p.rate, M, col, space);
  const F *cap = level<F, W>(p.cap, M, col, space), *ease = level<F, W>(p.ease, M, col, space);
  F *D = level<F, W>(p.demand, M, col, space), *next = space.take(M * W), *before = space.take(M * W);
  F *q = space.take(M * W), *r = space.take(M * W);
  Row<F, W> z_row(p.z, M, col, space), c_row(p.c, M, col, space);
  stocks_at_start<F, W>(p, net, col, n, work);
  for (int64_t k = 0; k < M; k++) {
    F low[W];
    DPSC_LANES low[b] = std::numeric_limits<F>::infinity();
    for (int64_t e = net.ptr[k]; e < net.ptr[k + 1]; e++) DPSC_LANES low[b] = smaller(low[b], work[e * W + b] * net.ia[e]);
    DPSC_LANES q[net.firm(k) * W + b] = low[b];
  }
  const F *from = work;
  for (int64_t t = 0; t < T; t++) {
    const F *z = z_row.at(t), *c = c_row.at(p.c_steps > 1 ? t : 0);
    F *x = p.x + t * M * B + col, *path = p.D + t * M * B + col;
    for (int64_t i = 0; i < M; i++) DPSC_LANES {
      const F d = D[i * W + b], zb = z[i * z_row.row + b], by_stock = q[i * W + b] * ease[i * W + b];
      const F made = smaller(d, smaller(zb * cap[i * W + b], p.shock_on_stock ? zb * by_stock : by_stock));
      x[i * B + b] = made;
      path[i * B + b] = d;
      r[i * W + b] = d > F(0) ? made / d : F(0);
      next[i * W + b] = c[i * c_row.row + b];
    }
    // Stocks go where they are kept, if they are.
    F *const to = p.kept && t + 1 < T && (t + 1) % p.interval == 0 ? p.kept_of(col, W, (t + 1) / p.interval - 1) : work;
    const int64_t ahead = t + 1 < T ? M * B : 0;
    const F *z_ahead = p.z.data + std::min(t + 1, T - 1) * p.z.step + col * p.z.column;
    for (int64_t k = 0; k < M; k++) {
      const int64_t i = net.firm(k);
      __builtin_prefetch(z_ahead + k * p.z.row);
      __builtin_prefetch(x + ahead + k * B, 1);
      __builtin_prefetch(path + ahead + k * B, 1);
      F low[W], xi[W], Di[W], Db[W], speed[W], ni[W];
      DPSC_LANES {
        low[b] = std::numeric_limits<F>::infinity();
        xi[b] = x[i * B + b];
        Di[b] = D[i * W + b];
        Db[b] = before[i * W + b];
        speed[b] = rate[i * W + b];
        ni[b] = n[i * W + b];
      }
      for (int64_t e = net.ptr[k]; e < net.ptr[k + 1]; e++) {
        const int64_t j = net.src[e];
        const F a = net.a[e], use = net.use[e], ia = net.ia[e];
        const F *s = from + e * W, *rj = r + j * W;
        F *out = to + e * W, *nj = next + j * W;
        F served[W];
        if (t)
          DPSC_LANES served[b] = positive(a * Db[b] + (use * ni[b] - s[b]) * speed[b]);
        else
          for (int b = 0; b < W; b++) served[b] = p.order.at(net.place(e), col + b);
        DPSC_LANES {
          const F stock = s[b] + rj[b] * served[b] - a * xi[b];
          out[b] = stock;
          nj[b] += positive(a * Di[b] + (use * ni[b] - stock) * speed[b]);
          low[b] = smaller(low[b], stock * ia);
        }
      }
      DPSC_LANES q[i * W + b] = low[b];
    }
    from = to;
    std::swap(before, D);
    std::swap(D, next);
  }
  F *end = p.D + T * M * B + col;
  for (int64_t i = 0; i < M; i++) DPSC_LANES end[i * B + b] = D[i * W + b];
  for (int64_t k = 0; k < M; k++) {
    const int64_t i = net.firm(k);
    for (int64_t e = net.ptr[k]; e < net.ptr[k + 1]; e++) {
      F *stock = p.last_stock + net.place(e) * B + col, *order = p.last_order + net.place(e) * B + col;
      const F a = net.a[e], use = net.use[e], *s = from + e * W;
      DPSC_LANES {
        const F left = s[b];
        stock[b] = left;
        order[b] = positive(a * before[i * W + b] + (use * n[i * W + b] - left) * rate[i * W + b]);
      }
    }
  }
}

// Stocks of a segment again: S before step t from S before step t - 1; output and demand are known.
template <class F, int W>
void rebuild(const Problem<F> &p, const Listed<F> &net, int64_t col, int64_t t, const F *n, const F *rate, const F *from, F *to, F *r) {
  const int64_t B = p.B, M = p.M;
  const F *x = p.x + (t - 1) * M * B + col, *D = p.D + (t - 1) * M * B + col, *before = t > 1 ? D - M * B : nullptr;
  for (int64_t i = 0; i < M; i++) DPSC_LANES r[i * W + b] = D[i * B + b] > F(0) ? x[i * B + b] / D[i * B + b] : F(0);
  for (int64_t k = 0; k < M; k++) {
    const int64_t i = net.firm(k);
    F xi[W], Db[W], speed[W], ni[W];
    DPSC_LANES {
      xi[b] = x[i * B + b];
      Db[b] = before ? before[i * B + b] : F(0);
      speed[b] = rate[i * W + b];
      ni[b] = n[i * W + b];
    }
    for (int64_t e = net.ptr[k]; e < net.ptr[k + 1]; e++) {
      const F a = net.a[e], use = net.use[e], *s = from + e * W, *rj = r + int64_t(net.src[e]) * W;
      F *out = to + e * W, served[W];
      if (before)
        DPSC_LANES served[b] = positive(a * Db[b] + (use * ni[b] - s[b]) * speed[b]);
      else
        for (int b = 0; b < W; b++) served[b] = p.order.at(net.place(e), col + b);
      DPSC_LANES out[b] = s[b] + rj[b] * served[b] - a * xi[b];
    }
  }
}

// The way back. Per edge g is kept, the gradient in the stock after a step but for what the stock allowed in the next one; that follows from the firm:
// factor / a where S / a is the smallest. The gradient in the orders is r_later g.
//
// A run that begins at its targets has a stock S = target + what happened since, and orders see only the difference. Each step takes from the gradient in S
// what it adds to that in the target, so of their sum there remains what stocks allowed: it is summed alone, and is exactly zero where no stock binds.
template <class F, int W> void backward_columns(const Problem<F> &p, const Listed<F> &net, int64_t col, Space<F> &space) {
  const int64_t B = p.B, M = p.M, E = p.E, T = p.T, K = p.interval;
  const F sharpness = F(p.sharpness);
  const bool soft = sharpness > 0, at_target = !p.stock, as_they_lie = W == B && !net.edge;
  const F *n = level<F, W>(p.inventory, M, col, space), *rate = level<F, W>(p.rate, M, col, space);
  const F *cap = level<F, W>(p.cap, M, col, space), *ease = level<F, W>(p.ease, M, col, space);
  Row<F, W> z_row(p.z, M, col, space), gx_row(p.gx, M, col, space), gD_row(p.gD, M, col, space);
  F *const g = space.take(E * W), *const first = space.take(E * W), *const bonus = soft ? space.take(E * W) : nullptr;
  F *const segment = space.take(std::max<int64_t>(std::min(K, T) - 1, 0) * E * W);
  const F *last = as_they_lie ? p.last_stock : nullptr;
  if (!last) {
    F *copy = space.take(E * W);
    for (int64_t e = 0; e < E; e++) DPSC_LANES copy[e * W + b] = p.last_stock[net.place(e) * B + col + b];
    last = copy;
  }
  stocks_at_start<F, W>(p, net, col, n, first);
  const auto zeros = [&](int64_t size) {
    F *made = space.take(size);
    std::fill_n(made, size, F(0));
    return made;
  };
  F *r = space.take(M * W), *later = zeros(M * W), *gr = space.take(M * W), *to_x = space.take(M * W), *to_D = space.take(M * W), *gnext = space.take(M * W);
  F *q = zeros(M * W), *ties = space.take(M * W), *factor = zeros(M * W), *through = zeros(M * W), *share = space.take(M * W);
  F *const demand_weights = soft ? space.take(M * W) : nullptr, *const own_weights = soft ? space.take(M * W) : nullptr;
  F *g_n = zeros(M * W), *g_cap = zeros(M * W), *g_rate = zeros(M * W), *g_ease = zeros(M * W), *g_c = zeros(M * W);
  for (int64_t e = 0; e < E; e++)
    for (int b = 0; b < W; b++) g[e * W + b] = p.g_last_stock ? p.g_last_stock.at(net.place(e), col + b) : F(0);
  if (soft) std::fill_n(bonus, E * W, F(0));
  {
    const F *given = gD_row.at(T);
    for (int64_t i = 0; i < M; i++) DPSC_LANES gnext[i * W + b] = given[i * gD_row.row + b];
  }
  int64_t begin = -1;
  const auto stocks = [&](int64_t t) -> const F * {
    if (t == T) return last;
    if (t == 0) return first;
    return t % K == 0 ? p.kept_of(col, W, t / K - 1) : segment + (t - begin - 1) * E * W;
  };
  for (int64_t t = T - 1; t >= 0; t--) {
    if (t / K * K != begin) {
      begin = t / K * K;
      for (int64_t u = begin + 1; u < std::min(begin + K, T); u++)
        rebuild<F, W>(p, net, col, u, n, rate, stocks(u - 1), segment + (u - begin - 1) * E * W, r);
    }
    const F *S = stocks(t), *after = stocks(t + 1);
    const F *x = p.x + t * M * B + col, *D = p.D + t * M * B + col, *before = t ? D - M * B : nullptr;
    const bool orders_asked = t == T - 1 && p.g_last_order;
    for (int64_t i = 0; i < M; i++) DPSC_LANES {
      r[i * W + b] = D[i * B + b] > F(0) ? x[i * B + b] / D[i * B + b] : F(0);
      gr[i * W + b] = F(0);
    }
    if (p.g_c)
      for (int64_t i = 0; i < M; i++) {
        F *gc = p.c_steps > 1 ? p.g_c + (t * M + i) * B + col : g_c + i * W;
        DPSC_LANES gc[b] = p.c_steps > 1 ? gnext[i * W + b] : gc[b] + gnext[i * W + b];
      }
    const int64_t ahead = t ? M * B : 0;
    const F *z_ahead = p.z.data + std::max<int64_t>(t - 1, 0) * p.z.step + col * p.z.column;
    for (int64_t k = 0; k < M; k++) {
      const int64_t i = net.firm(k);
      __builtin_prefetch(z_ahead + k * p.z.row);
      __builtin_prefetch(x - ahead + k * B);
      __builtin_prefetch(D - 2 * ahead + k * B);
      if (p.g_z) __builtin_prefetch(p.g_z + t * M * B - ahead + col + k * B, 1);
      F dx[W], dD[W], dn[W], dr[W], low[W], count[W], Di[W], Db[W], speed[W], ni[W], qi[W], fi[W];
      DPSC_LANES {
        dx[b] = dD[b] = dn[b] = dr[b] = count[b] = F(0);
        low[b] = std::numeric_limits<F>::infinity();
        Di[b] = D[i * B + b];
        Db[b] = before ? before[i * B + b] : F(0);
        speed[b] = rate[i * W + b];
        ni[b] = n[i * W + b];
        qi[b] = q[i * W + b];
        fi[b] = factor[i * W + b];
      }
      for (int64_t e = net.ptr[k]; e < net.ptr[k + 1]; e++) {
        const int64_t j = net.src[e];
        const F a = net.a[e], use = net.use[e], ia = net.ia[e], *s = S + e * W, *sa = after + e * W;
        const F *lj = later + j * W, *nj = gnext + j * W;
        F *ge = g + e * W, *grj = gr + j * W, ordered[W], served[W], extra[W];
        if (orders_asked)
          for (int b = 0; b < W; b++) ordered[b] = p.g_last_order.at(net.place(e), col + b);
        else
          DPSC_LANES ordered[b] = lj[b] * ge[b];
        if (before)
          DPSC_LANES served[b] = positive(a * Db[b] + (use * ni[b] - s[b]) * speed[b]);
        else
          for (int b = 0; b < W; b++) served[b] = p.order.at(net.place(e), col + b);
        if (soft)
          DPSC_LANES extra[b] = bonus[e * W + b];
        else
          DPSC_LANES extra[b] = sa[b] * ia == qi[b] ? fi[b] * ia : F(0);
        DPSC_LANES {
          const F gap = use * ni[b] - sa[b];
          const F u = a * Di[b] + gap * speed[b] > F(0) ? ordered[b] + nj[b] : F(0);
          const F down = u * speed[b];
          const F of_stock = ge[b] + extra[b] - down;
          dD[b] += a * u;
          dr[b] += u * gap;
          dn[b] += use * (at_target ? extra[b] : down);
          dx[b] -= a * of_stock;
          grj[b] += of_stock * served[b];
          ge[b] = of_stock;
          const F allowed = s[b] * ia;
          count[b] = allowed < low[b] ? F(1) : allowed == low[b] ? count[b] + F(1) : count[b];
          low[b] = smaller(low[b], allowed);
        }
      }
      DPSC_LANES {
        to_x[i * W + b] = dx[b];
        to_D[i * W + b] = dD[b];
        q[i * W + b] = low[b];
        ties[i * W + b] = count[b];
        g_n[i * W + b] += dn[b];
        g_rate[i * W + b] += dr[b];
      }
    }
    // The firms: who limits whom.
    const F *z = z_row.at(t), *gx = gx_row.at(t), *gD = gD_row.at(t);
    if (soft)
      for (int64_t k = 0; k < M; k++) {
        const int64_t i = net.firm(k);
        F d[W], own[W], lowest[W], pace[W], total[W], sum[W];
        DPSC_LANES {
          const F zb = z[i * z_row.row + b], allowed = q[i * W + b] * ease[i * W + b];
          d[b] = D[i * B + b];
          own[b] = zb * cap[i * W + b];
          lowest[b] = smaller(d[b], smaller(own[b], p.shock_on_stock ? zb * allowed : allowed));
          pace[b] = p.shock_on_stock ? zb * ease[i * W + b] : ease[i * W + b];
          total[b] = sum[b] = F(0);
        }
        for (int64_t e = net.ptr[k]; e < net.ptr[k + 1]; e++) {
          const F ia = net.ia[e], *s = S + e * W;
          F *w = bonus + e * W;
          DPSC_LANES {
            const F allowed = s[b] * ia, here = weight(lowest[b], allowed * pace[b], sharpness);
            w[b] = here;
            total[b] += here;
            sum[b] += here * allowed;
          }
        }
        F *of_demand = demand_weights + i * W, *of_own = own_weights + i * W;
        DPSC_LANES of_demand[b] = weight(lowest[b], d[b], sharpness);
        DPSC_LANES of_own[b] = weight(lowest[b], own[b], sharpness);
        DPSC_LANES {
          ties[i * W + b] = total[b];
          through[i * W + b] = sum[b];
        }
      }
    for (int64_t i = 0; i < M; i++) {
      F own_weight[W], demand_weight[W];
      F *gz = p.g_z ? p.g_z + (t * M + i) * B + col : nullptr, of_z[W];
      DPSC_LANES {
        const int64_t k = i * W + b;
        const F d = D[i * B + b], zb = z[i * z_row.row + b], own = zb * cap[k], allowed = q[k] * ease[k];
        const F by_stock = p.shock_on_stock ? zb * allowed : allowed, lowest = smaller(d, smaller(own, by_stock));
        to_x[k] += gx[i * gx_row.row + b] + (d > F(0) ? gr[k] / d : F(0));
        to_D[k] += gD[i * gD_row.row + b] - (d > F(0) ? gr[k] * r[k] / d : F(0));
        demand_weight[b] = F(d == lowest);
        own_weight[b] = F(own == lowest);
        if (!soft) {
          ties[k] = by_stock == lowest ? ties[k] : F(0);
          through[k] = by_stock == lowest ? ties[k] * q[k] : F(0);
        }
      }
      if (soft)
        DPSC_LANES {
          demand_weight[b] = demand_weights[i * W + b];
          own_weight[b] = own_weights[i * W + b];
        }
      DPSC_LANES {
        const int64_t k = i * W + b;
        const F zb = z[i * z_row.row + b], each = to_x[k] / (demand_weight[b] + own_weight[b] + ties[k]);
        const F of_own = own_weight[b] * each, of_stock = each * through[k];
        share[k] = each;
        factor[k] = ties[k] > F(0) ? each * (p.shock_on_stock ? zb * ease[k] : ease[k]) : F(0);
        to_D[k] += demand_weight[b] * each;
        g_cap[k] += of_own != F(0) ? of_own * zb : F(0);
        g_ease[k] += p.shock_on_stock ? of_stock * zb : of_stock;
        of_z[b] = (of_own != F(0) ? of_own * cap[k] : F(0)) + (p.shock_on_stock ? of_stock * ease[k] : F(0));
      }
      if (gz) DPSC_LANES gz[b] = of_z[b];
    }
    if (soft)
      for (int64_t k = 0; k < M; k++)
        for (int64_t e = net.ptr[k]; e < net.ptr[k + 1]; e++)
          DPSC_LANES bonus[e * W + b] *= factor[net.firm(k) * W + b] * net.ia[e];
    std::swap(to_D, gnext);
    std::swap(r, later);
  }
  for (int64_t k = 0; k < M; k++) {
    const int64_t i = net.firm(k);
    for (int64_t e = net.ptr[k]; e < net.ptr[k + 1]; e++)
      DPSC_LANES {
        const F ge = g[e * W + b], ia = net.ia[e];
        const F allowed = soft ? bonus[e * W + b] : first[e * W + b] * ia == q[i * W + b] ? factor[i * W + b] * ia : F(0);
        const int64_t at = net.place(e) * B + col + b;
        if (p.g_order) p.g_order[at] = later[int64_t(net.src[e]) * W + b] * ge;
        if (p.g_stock) p.g_stock[at] = ge + allowed;
        if (at_target) g_n[i * W + b] += net.use[e] * (allowed + (p.g_last_stock ? p.g_last_stock.at(net.place(e), col + b) : F(0)));
      }
  }
  const auto out = [&](F *to, const F *found) {
    if (!to) return;
    for (int64_t i = 0; i < M; i++) DPSC_LANES to[i * B + col + b] = found[i * W + b];
  };
  out(p.g_demand, gnext), out(p.g_inventory, g_n), out(p.g_cap, g_cap), out(p.g_rate, g_rate), out(p.g_ease, g_ease);
  if (p.c_steps == 1) out(p.g_c, g_c);
}

}  // namespace dpsc
