// Whole runs of the firm network, forward and backward, fused: one pass over the edges a step.  Compiled on first use by native.py, called through ctypes.
//
// Arrays are row major with the batch innermost: edges (E, B), firms (M, B), paths (T, M, B).  The edges are sorted by buyer; ptr says whose they are.
// The batch is cut into blocks of W columns that fit a vector register; every block is a run of its own, so the result of a column depends neither on its
// neighbours nor on the number of threads.  All sums have one order: over a buyer's edges as stored, into suppliers in the order of the edges.
//
// One step t (demand D_t and orders O_t were placed before):
//   x = min(D, z min(cap, q / need)), q = min_e S_e / a_e       r = x / D
//   S_e += r[src] O_e - a_e x[dst]      O_e = max(0, a_e D[dst] + (target_e - S_e) / tau)      D_{t+1} = c_t + sum O
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

// The columns of a block; they never overlap with each other. A loop that is unrolled first would be left scalar, hence `unroll 1`.
#if defined(__clang__)
#define DPSC_LANES _Pragma("clang loop vectorize(assume_safety)") for (int b = 0; b < W; b++)
#else
#define DPSC_LANES _Pragma("GCC unroll 1") _Pragma("GCC ivdep") for (int b = 0; b < W; b++)
#endif

namespace {

template <class F> using Buffer = std::unique_ptr<F[]>;

template <class F> struct Problem {
  int64_t T, M, E, B, c_steps, interval;
  int shock_on_stock;
  double sharpness;  // 0: exact sub-gradient; else beta of the straight-through weights
  const int64_t *ptr;
  const int32_t *src;
  const F *a, *target, *stock, *order, *demand, *c, *z, *cap, *rate, *ease;  // rate = 1 / tau, ease = 1 / need
  F *x, *D;                       // (T, M, B), (T + 1, M, B)
  F *last_stock, *last_order;     // (E, B)
  F *kept;                        // (ceil(T / interval) - 1, E, B): stocks before steps interval, 2 interval ...
  // backward
  const F *gx, *gD, *g_last_stock, *g_last_order;  // may be null
  F *g_stock, *g_order, *g_demand, *g_target, *g_c, *g_z, *g_cap, *g_rate, *g_ease;
};

// Work space of one thread: the same buffers for every block, because fresh pages cost as much as a step.
template <class F> class Space {
 public:
  void restart() { next_ = 0; }
  F *take(int64_t size) {
    if (next_ == held_.size()) held_.push_back({nullptr, 0});
    auto &slot = held_[next_++];
    if (slot.second < size) {
      slot.first.reset(new F[size]);
      slot.second = size;
    }
    return slot.first.get();
  }

 private:
  std::vector<std::pair<Buffer<F>, int64_t>> held_;
  size_t next_ = 0;
};

template <class F> inline F smaller(F a, F b) { return b < a ? b : a; }

// What the limits of a firm are, in absolute units.
template <class F, int W> inline void limits(const Problem<F> &p, const F *z, const F *cap, const F *q, const F *ease, F *own, F *stock) {
  DPSC_LANES {
    own[b] = z[b] * cap[b];
    stock[b] = p.shock_on_stock ? z[b] * (q[b] * ease[b]) : q[b] * ease[b];
  }
}

// The deliveries, stocks and orders of one step for one block.  q becomes the smallest S / a after the step.
template <class F, int W>
inline void edges(const Problem<F> &p, int64_t col, F *S, F *O, const F *r, const F *x, const F *D, F *next, F *q, const F *ia) {
  const int64_t B = p.B;
  for (int64_t i = 0; i < p.M; i++) {
    F low[W], xi[W], Di[W], rate[W];
    DPSC_LANES {
      low[b] = std::numeric_limits<F>::infinity();
      xi[b] = x[i * B + col + b];
      Di[b] = D[i * B + col + b];
      rate[b] = p.rate[i * B + col + b];
    }
    for (int64_t e = p.ptr[i]; e < p.ptr[i + 1]; e++) {
      const int64_t j = p.src[e];
      const F a = p.a[e], inverse = ia[e];
      const F *target = p.target + e * B + col, *rj = r + j * W;
      F *s = S + e * W, *o = O + e * W, *n = next + j * B + col;
      DPSC_LANES {
        const F stock = s[b] + rj[b] * o[b] - a * xi[b];
        const F want = a * Di[b] + (target[b] - stock) * rate[b];
        const F placed = want > F(0) ? want : F(0);
        s[b] = stock;
        o[b] = placed;
        n[b] += placed;
        low[b] = smaller(low[b], stock * inverse);
      }
    }
    DPSC_LANES q[i * W + b] = low[b];
  }
}

template <class F> Buffer<F> inverse(const Problem<F> &p) {
  Buffer<F> ia(new F[p.E]);
  for (int64_t e = 0; e < p.E; e++) ia[e] = F(1) / p.a[e];
  return ia;
}

template <class F, int W> void forward_block(const Problem<F> &p, int64_t col, const F *ia, Space<F> &space) {
  const int64_t B = p.B, M = p.M, E = p.E;
  F *S = W == B ? p.last_stock : space.take(E * W), *O = W == B ? p.last_order : space.take(E * W);  // the result is the work space where it can be
  F *q = space.take(M * W), *r = space.take(M * W);
  for (int64_t i = 0; i < M; i++) {
    F low[W];
    DPSC_LANES {
      low[b] = std::numeric_limits<F>::infinity();
      p.D[i * B + col + b] = p.demand[i * B + col + b];
    }
    for (int64_t e = p.ptr[i]; e < p.ptr[i + 1]; e++)
      DPSC_LANES {
        S[e * W + b] = p.stock[e * B + col + b];
        O[e * W + b] = p.order[e * B + col + b];
        low[b] = smaller(low[b], S[e * W + b] * ia[e]);
      }
    DPSC_LANES q[i * W + b] = low[b];
  }
  for (int64_t t = 0; t < p.T; t++) {
    if (p.kept && t && t % p.interval == 0) {
      F *kept = p.kept + (t / p.interval - 1) * E * B + col;
      if (W == B) std::memcpy(kept, S, sizeof(F) * E * W);
      else
        for (int64_t e = 0; e < E; e++)
          DPSC_LANES kept[e * B + b] = S[e * W + b];
    }
    const F *z = p.z + t * M * B + col, *c = p.c + (p.c_steps > 1 ? t : 0) * M * B + col, *D = p.D + t * M * B + col;
    F *x = p.x + t * M * B + col, *next = p.D + (t + 1) * M * B + col;
    for (int64_t i = 0; i < M; i++) {
      F own[W], stock[W];
      limits<F, W>(p, z + i * B, p.cap + i * B + col, &q[i * W], p.ease + i * B + col, own, stock);
      DPSC_LANES {
        const F made = smaller(D[i * B + b], smaller(own[b], stock[b]));
        x[i * B + b] = made;
        r[i * W + b] = D[i * B + b] > F(0) ? made / D[i * B + b] : F(0);
        next[i * B + b] = c[i * B + b];
      }
    }
    edges<F, W>(p, col, S, O, r, x - col, D - col, next - col, q, ia);
  }
  if (W != B)
    for (int64_t e = 0; e < E; e++)
      DPSC_LANES {
        p.last_stock[e * B + col + b] = S[e * W + b];
        p.last_order[e * B + col + b] = O[e * W + b];
      }
}

// Stocks of a segment again: S before step t from S before step t - 1; output and demand are known.
template <class F, int W>
void rebuild(const Problem<F> &p, int64_t col, int64_t t, const F *from, int64_t from_row, F *to, F *r) {
  const int64_t B = p.B, M = p.M;
  const F *x = p.x + (t - 1) * M * B + col, *D = p.D + (t - 1) * M * B + col, *before = t > 1 ? D - M * B : nullptr;
  for (int64_t i = 0; i < M; i++)
    DPSC_LANES r[i * W + b] = D[i * B + b] > F(0) ? x[i * B + b] / D[i * B + b] : F(0);
  for (int64_t i = 0; i < M; i++)
    for (int64_t e = p.ptr[i]; e < p.ptr[i + 1]; e++) {
      const F a = p.a[e], *rj = &r[int64_t(p.src[e]) * W], *s = from + e * from_row, *target = p.target + e * B + col, *rate = p.rate + i * B + col;
      F *out = to + e * W;
      if (before) {
        DPSC_LANES {
          const F want = a * before[i * B + b] + (target[b] - s[b]) * rate[b];
          out[b] = s[b] + rj[b] * (want > F(0) ? want : F(0)) - a * x[i * B + b];
        }
      } else {
        const F *o = p.order + e * B + col;
        DPSC_LANES out[b] = s[b] + rj[b] * o[b] - a * x[i * B + b];
      }
    }
}

// (low / v)^beta for one limit; 0 where it is too small to matter.
template <class F> inline F weight(F low, F v, double beta) {
  const F tiny = std::numeric_limits<F>::min();
  const F ratio = (low > tiny ? low : tiny) / (v > tiny ? v : tiny);
  return ratio >= F(1) ? F(1) : F(std::exp(F(beta) * std::log(ratio)));
}

template <class F, int W> void backward_block(const Problem<F> &p, int64_t col, const F *ia, Space<F> &space) {
  const int64_t B = p.B, M = p.M, E = p.E, T = p.T, K = p.interval;
  F *gS = W == B ? p.g_stock : space.take(E * W), *gO = W == B ? p.g_order : space.take(E * W), *gT = W == B ? p.g_target : space.take(E * W);
  for (int64_t e = 0; e < E; e++)
    DPSC_LANES {
      gS[e * W + b] = p.g_last_stock ? p.g_last_stock[e * B + col + b] : F(0);
      gO[e * W + b] = p.g_last_order ? p.g_last_order[e * B + col + b] : F(0);
      gT[e * W + b] = F(0);
    }
  const int64_t span = std::min(K, T);
  F *segment = space.take(std::max<int64_t>(span - 1, 0) * E * W);
  F *r = space.take(M * W), *gr = space.take(M * W), *gx = space.take(M * W), *gD = space.take(M * W), *gnext = space.take(M * W), *q = space.take(M * W);
  int64_t widest = 0;
  for (int64_t i = 0; i < M; i++) widest = std::max(widest, p.ptr[i + 1] - p.ptr[i]);
  F *w = space.take(widest * W);
  for (int64_t i = 0; i < M; i++)
    DPSC_LANES {
      gnext[i * W + b] = p.gD ? p.gD[(T * M + i) * B + col + b] : F(0);
      p.g_cap[i * B + col + b] = p.g_rate[i * B + col + b] = p.g_ease[i * B + col + b] = F(0);
      if (p.c_steps == 1) p.g_c[i * B + col + b] = F(0);
    }
  // Stocks before step t: (pointer, row length).
  int64_t begin = -1;
  const auto stocks = [&](int64_t t, int64_t &row) -> const F * {
    row = B;
    if (t == T) return p.last_stock + col;
    if (t == 0) return p.stock + col;
    if (t % K == 0) return p.kept + (t / K - 1) * E * B + col;
    row = W;
    return segment + (t - begin - 1) * E * W;
  };
  for (int64_t t = T - 1; t >= 0; t--) {
    if (t / K * K != begin) {
      // A new segment; stocks after its last step are a checkpoint or the last ones of all.
      begin = t / K * K;
      for (int64_t u = begin + 1; u < std::min(begin + K, T); u++) {
        int64_t row;
        const F *from = stocks(u - 1, row);
        rebuild<F, W>(p, col, u, from, row, segment + (u - begin - 1) * E * W, r);
      }
    }
    int64_t row, row_after;
    const F *S = stocks(t, row), *after = stocks(t + 1, row_after);
    const F *x = p.x + t * M * B + col, *D = p.D + t * M * B + col, *before = t ? D - M * B : nullptr, *z = p.z + t * M * B + col;
    F *gc = p.g_c + (p.c_steps > 1 ? t : 0) * M * B + col;
    for (int64_t i = 0; i < M; i++)
      DPSC_LANES {
        const int64_t k = i * W + b;
        r[k] = D[i * B + b] > F(0) ? x[i * B + b] / D[i * B + b] : F(0);
        gr[k] = F(0);
        if (p.c_steps > 1) gc[i * B + b] = gnext[k];
        else gc[i * B + b] += gnext[k];
      }
    for (int64_t i = 0; i < M; i++) {
      F to_x[W], to_D[W], to_rate[W], low[W], Di[W], Db[W], rate[W];
      DPSC_LANES {
        to_x[b] = to_D[b] = to_rate[b] = F(0);
        low[b] = std::numeric_limits<F>::infinity();
        Di[b] = D[i * B + b];
        Db[b] = before ? before[i * B + b] : F(0);
        rate[b] = p.rate[i * B + col + b];
      }
      for (int64_t e = p.ptr[i]; e < p.ptr[i + 1]; e++) {
        const int64_t j = p.src[e];
        const F a = p.a[e], inverse = ia[e], *target = p.target + e * B + col, *s = S + e * row, *s_after = after + e * row_after;
        const F *first = before ? nullptr : p.order + e * B + col;
        F *gs = gS + e * W, *go = gO + e * W, *gt = gT + e * W, *grj = &gr[j * W];
        const F *rj = &r[j * W], *gj = &gnext[j * W];
        DPSC_LANES {
          const F gap_after = target[b] - s_after[b];
          const F want_after = a * Di[b] + gap_after * rate[b];
          const F u = want_after > F(0) ? go[b] + gj[b] : F(0);
          const F down = u * rate[b];
          const F g = gs[b] - down;
          const F want = a * Db[b] + (target[b] - s[b]) * rate[b];
          const F o = first ? first[b] : (want > F(0) ? want : F(0));
          to_D[b] += a * u;
          to_rate[b] += u * gap_after;
          gt[b] += down;
          grj[b] += g * o;
          go[b] = rj[b] * g;
          to_x[b] -= a * g;
          gs[b] = g;
          low[b] = smaller(low[b], s[b] * inverse);
        }
      }
      DPSC_LANES {
        gx[i * W + b] = to_x[b];
        gD[i * W + b] = to_D[b];
        q[i * W + b] = low[b];
        p.g_rate[i * B + col + b] += to_rate[b];
      }
    }
    for (int64_t i = 0; i < M; i++) {
      F own[W], stock[W], to_stock[W];
      bool any = false;
      limits<F, W>(p, z + i * B, p.cap + i * B + col, &q[i * W], p.ease + i * B + col, own, stock);
      F to_own[W], to_demand[W], lowest[W];
      DPSC_LANES {
        const int64_t k = i * W + b;
        const F d = D[i * B + b];
        lowest[b] = smaller(d, smaller(own[b], stock[b]));
        gx[k] += (p.gx ? p.gx[(t * M + i) * B + col + b] : F(0)) + (d > F(0) ? gr[k] / d : F(0));
        gD[k] += (p.gD ? p.gD[(t * M + i) * B + col + b] : F(0)) - (d > F(0) ? gr[k] * r[k] / d : F(0));
        any = any || stock[b] == lowest[b];
      }
      const bool soft = p.sharpness > 0;
      F total[W], share[W];
      DPSC_LANES {
        const F d = D[i * B + b];
        to_demand[b] = soft ? weight(lowest[b], d, p.sharpness) : F(d == lowest[b]);
        to_own[b] = soft ? weight(lowest[b], own[b], p.sharpness) : F(own[b] == lowest[b]);
        total[b] = to_demand[b] + to_own[b];
        to_stock[b] = F(0);
      }
      const auto limit = [&](int64_t e, int b) {
        const F allowed = S[e * row + b] * ia[e] * p.ease[i * B + col + b];
        return p.shock_on_stock ? z[i * B + b] * allowed : allowed;
      };
      if (soft || any) {
        const int64_t count = p.ptr[i + 1] - p.ptr[i];
        for (int64_t n = 0; n < count; n++) {
          const int64_t e = p.ptr[i] + n;
          DPSC_LANES {
            if (soft) w[n * W + b] = weight(lowest[b], limit(e, b), p.sharpness);
            else w[n * W + b] = F(stock[b] == lowest[b] && S[e * row + b] * ia[e] == q[i * W + b]);
            total[b] += w[n * W + b];
          }
        }
        DPSC_LANES share[b] = gx[i * W + b] / total[b];
        for (int64_t n = 0; n < count; n++) {
          const int64_t e = p.ptr[i] + n;
          DPSC_LANES {
            const F g = w[n * W + b] * share[b];
            const F z_here = p.shock_on_stock ? z[i * B + b] : F(1), ease = p.ease[i * B + col + b];
            to_stock[b] += g * (S[e * row + b] * ia[e]);
            gS[e * W + b] += g * (z_here * ease * ia[e]);
          }
        }
      } else {
        DPSC_LANES share[b] = gx[i * W + b] / total[b];
      }
      DPSC_LANES {
        const int64_t k = i * W + b, m = i * B + col + b;
        const F zb = z[i * B + b], ease = p.ease[m], of_own = to_own[b] * share[b];
        gD[k] += to_demand[b] * share[b];
        p.g_cap[m] += of_own > F(0) || of_own < F(0) ? of_own * zb : F(0);
        p.g_z[(t * M + i) * B + col + b] =
            (of_own != F(0) ? of_own * p.cap[m] : F(0)) + (p.shock_on_stock ? to_stock[b] * ease : F(0));
        p.g_ease[m] += to_stock[b] * (p.shock_on_stock ? zb : F(1));
      }
    }
    std::swap(gD, gnext);
  }
  for (int64_t i = 0; i < M; i++)
    DPSC_LANES p.g_demand[i * B + col + b] = gnext[i * W + b];
  if (W != B)
    for (int64_t e = 0; e < E; e++)
      DPSC_LANES {
        p.g_stock[e * B + col + b] = gS[e * W + b];
        p.g_order[e * B + col + b] = gO[e * W + b];
        p.g_target[e * B + col + b] = gT[e * W + b];
      }
}

struct Block {
  int64_t column;
  int width;
};

template <class F, bool BACK> void block(const Problem<F> &p, const Block &b, const F *ia, Space<F> &space) {
  space.restart();
#define DPSC_WIDTH(W)                                        \
  case W:                                                    \
    if (BACK) backward_block<F, W>(p, b.column, ia, space);  \
    else forward_block<F, W>(p, b.column, ia, space);        \
    break;
  switch (b.width) {
    DPSC_WIDTH(16)
    DPSC_WIDTH(8)
    DPSC_WIDTH(4)
    DPSC_WIDTH(1)
  }
#undef DPSC_WIDTH
}

template <class F, bool BACK> int run(const Problem<F> &p, int threads) {
  try {
    const Buffer<F> ia = inverse(p);
    std::vector<Block> blocks;
    int width = sizeof(F) == 4 ? 16 : 8;
    for (int64_t column = 0; column < p.B;) {
      while (width > p.B - column) width = width > 4 ? width / 2 : 1;
      blocks.push_back({column, width});
      column += width;
    }
    const int workers = std::min<int>(threads, int(blocks.size()));
    std::atomic<size_t> next(0);
    std::atomic<int> failed(0);
    const auto work = [&] {
      try {
        Space<F> space;
        for (size_t k = next++; k < blocks.size(); k = next++) block<F, BACK>(p, blocks[k], ia.get(), space);
      } catch (...) {
        failed = 1;
      }
    };
    std::vector<std::thread> pool;
    for (int k = 1; k < workers; k++) pool.emplace_back(work);
    work();
    for (auto &thread : pool) thread.join();
    return failed;
  } catch (...) {
    return 1;
  }
}

template <class F> Problem<F> problem(const int64_t *sizes, double sharpness, void *const *d) {
  Problem<F> p;
  p.T = sizes[0], p.M = sizes[1], p.E = sizes[2], p.B = sizes[3], p.c_steps = sizes[4], p.interval = sizes[5], p.shock_on_stock = int(sizes[6]);
  p.sharpness = sharpness;
  int k = 0;
  p.ptr = static_cast<const int64_t *>(d[k++]);
  p.src = static_cast<const int32_t *>(d[k++]);
  for (const F **field : {&p.a, &p.target, &p.stock, &p.order, &p.demand, &p.c, &p.z, &p.cap, &p.rate, &p.ease}) *field = static_cast<const F *>(d[k++]);
  for (F **field : {&p.x, &p.D, &p.last_stock, &p.last_order, &p.kept}) *field = static_cast<F *>(d[k++]);
  for (const F **field : {&p.gx, &p.gD, &p.g_last_stock, &p.g_last_order}) *field = static_cast<const F *>(d[k++]);
  for (F **field : {&p.g_stock, &p.g_order, &p.g_demand, &p.g_target, &p.g_c, &p.g_z, &p.g_cap, &p.g_rate, &p.g_ease}) *field = static_cast<F *>(d[k++]);
  return p;
}

}  // namespace

// sizes: T, M, E, B, steps of c, interval of checkpoints, shock on stock, threads, backward, bytes of a number.  Returns 0, or 1 without memory.
extern "C" int dpsc_firms(const int64_t *sizes, double sharpness, void *const *data) {
  const int threads = int(sizes[7]);
  if (sizes[9] == 4) return sizes[8] ? run<float, true>(problem<float>(sizes, sharpness, data), threads) : run<float, false>(problem<float>(sizes, sharpness, data), threads);
  return sizes[8] ? run<double, true>(problem<double>(sizes, sharpness, data), threads) : run<double, false>(problem<double>(sizes, sharpness, data), threads);
}
