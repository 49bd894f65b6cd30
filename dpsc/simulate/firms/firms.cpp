// Whole runs of the firm network, forward and backward, fused: one pass over the edges a step.  Compiled on first use by native.py, called through ctypes.
//
// Arrays are row major with the batch innermost: edges (E, B), firms (M, B), paths (T, M, B).  The edges are sorted by buyer; ptr says whose they are.
// The batch is cut into blocks of W columns that fit a vector register; every block is a run of its own, so the result of a column depends neither on its
// neighbours nor on the number of threads.  All sums have one order: over a buyer's edges as stored, into suppliers buyer by buyer.
//
// One step t (demand D_t and orders O_t were placed before):
//   x = min(D, z min(cap, q / need)), q = min_e S_e / a_e       r = x / D
//   S_e += r[src] O_e - a_e x[dst]      O_e = max(0, a_e D[dst] + (use_e n[dst] - S_e) / tau)      D_{t+1} = c_t + sum O
// Orders follow from stocks and the demand before, so that blocks of columns do not store them.
#include <atomic>
#include <optional>
#include <thread>

#include "firms_buyers_back.h"
#include "firms_columns.h"

namespace dpsc {

struct Block {
  int64_t column;
  int width;
};

template <class F> constexpr int widest() { return int(LINE / sizeof(F)); }

template <class F, bool BACK>
void block(const Problem<F> &p, const Block &b, const std::optional<Listed<F>> &listed, const std::optional<Jagged<F>> &jagged, Space<F> &space) {
  space.restart();
  if (b.width == 1 && jagged) {
    if (BACK) backward_buyers(p, *jagged, b.column, space);
    else forward_buyers(p, *jagged, b.column, space);
    return;
  }
#define DPSC_WIDTH(W)                                                   \
  case W:                                                               \
    if (BACK) backward_columns<F, W>(p, *listed, b.column, space);      \
    else forward_columns<F, W>(p, *listed, b.column, space);            \
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
    std::vector<Block> blocks;
    int width = widest<F>();
    for (int64_t column = 0; column < p.B;) {
      while (width > p.B - column) width = width > 4 ? width / 2 : 1;
      blocks.push_back({column, width});
      column += width;
    }
    std::optional<Listed<F>> listed;
    std::optional<Jagged<F>> jagged;
    for (const auto &b : blocks) {
      if (b.width == 1 && p.E <= LARGE) {
        if (!jagged) jagged.emplace(p);
      } else if (!listed) {
        listed.emplace(p);
      }
    }
    const int workers = std::min<int>(threads, int(blocks.size()));
    std::atomic<size_t> next(0);
    std::atomic<int> failed(0);
    const auto work = [&] {
      try {
        Space<F> space;
        for (size_t k = next++; k < blocks.size(); k = next++) block<F, BACK>(p, blocks[k], listed, jagged, space);
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

template <class F> Problem<F> problem(const int64_t *sizes, const int64_t *strides, double sharpness, void *const *d) {
  Problem<F> p;
  p.T = sizes[0], p.M = sizes[1], p.E = sizes[2], p.B = sizes[3], p.c_steps = sizes[4], p.interval = sizes[5], p.shock_on_stock = sizes[6];
  p.sharpness = sharpness;
  int k = 0;
  p.ptr = static_cast<const int64_t *>(d[k++]);
  p.src = static_cast<const int32_t *>(d[k++]);
  p.a = static_cast<const F *>(d[k++]);
  p.use = static_cast<const F *>(d[k++]);
  Grid<F> *const grids[] = {&p.stock, &p.order, &p.inventory, &p.demand, &p.c, &p.z, &p.cap, &p.rate, &p.ease, &p.gx, &p.gD, &p.g_last_stock, &p.g_last_order};
  for (Grid<F> *grid : grids) {
    *grid = {static_cast<const F *>(d[k++]), strides[0], strides[1], strides[2]};
    strides += 3;
  }
  F **const made[] = {&p.x, &p.D, &p.last_stock, &p.last_order, &p.kept, &p.g_stock, &p.g_order, &p.g_inventory, &p.g_demand, &p.g_c, &p.g_z, &p.g_cap,
                      &p.g_rate, &p.g_ease};
  for (F **field : made) *field = static_cast<F *>(d[k++]);
  return p;
}

template <class F> int call(const int64_t *sizes, const int64_t *strides, double sharpness, void *const *data) {
  const Problem<F> p = problem<F>(sizes, strides, sharpness, data);
  const int threads = int(sizes[7]);
  return sizes[8] ? run<F, true>(p, threads) : run<F, false>(p, threads);
}

}  // namespace dpsc

// sizes: T, M, E, B, steps of c, interval of checkpoints, shock on stock, threads, backward, bytes of a number.  strides: step, row and column of the 13 grids.
// Returns 0, or 1 without memory.
extern "C" int dpsc_firms(const int64_t *sizes, const int64_t *strides, double sharpness, void *const *data) {
  return sizes[9] == 4 ? dpsc::call<float>(sizes, strides, sharpness, data) : dpsc::call<double>(sizes, strides, sharpness, data);
}
