// A run of the firm network as the kernels see it: where the numbers lie, in which order buyers are taken, and room to work in.
#pragma once
#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "firms_weights.h"

// W numbers side by side; they never overlap with each other. A loop that is unrolled first would be left scalar, hence `unroll 1`.
#if defined(__clang__)
#define DPSC_LANES _Pragma("clang loop vectorize(assume_safety)") for (int b = 0; b < W; b++)
#else
#define DPSC_LANES _Pragma("GCC unroll 1") _Pragma("GCC ivdep") for (int b = 0; b < W; b++)
#endif

namespace dpsc {

constexpr int LINE = 64;                      // bytes of a cache line, and of the widest vector
#if defined(__AVX512F__)
constexpr int VECTOR = 64;                    // bytes of the vectors of this machine
#elif defined(__AVX__)
constexpr int VECTOR = 32;
#else
constexpr int VECTOR = 16;
#endif
constexpr int64_t WINDOW = 1024;              // buyers that may change places
constexpr int64_t LARGE = int64_t(1) << 21;   // edges beyond which the network is taken as it lies: copies would cost more memory than they save time

// Numbers at (step, row, column); a distance is 0 where one number stands for all.
template <class F> struct Grid {
  const F *data = nullptr;
  int64_t step = 0, row = 0, column = 0;
  explicit operator bool() const { return data != nullptr; }
  F at(int64_t i, int64_t b) const { return data[i * row + b * column]; }
};

template <class F> struct Problem {
  int64_t T, M, E, B, c_steps, interval;
  bool shock_on_stock;
  double sharpness;  // 0: exact sub-gradient; else beta of the straight-through weights
  const int64_t *ptr;
  const int32_t *src;
  const F *a, *use;
  Grid<F> stock, order, inventory, demand, c, z, cap, rate, ease;  // rate = 1 / tau, ease = 1 / need; without a stock the run begins at its targets
  F *x, *D;                    // (T, M, B), (T + 1, M, B)
  F *last_stock, *last_order;  // (E, B)
  F *kept;                     // block by block (count, E, W): stocks before steps interval, 2 interval ..., edges as the kernels take them
  // backward; what is not asked for is null
  Grid<F> gx, gD, g_last_stock, g_last_order;
  F *g_stock, *g_order, *g_demand, *g_inventory, *g_c, *g_z, *g_cap, *g_rate, *g_ease;

  int64_t count() const { return (T + interval - 1) / interval - 1; }
  F *kept_of(int64_t col, int W, int64_t k) const { return kept + count() * E * col + k * E * W; }
};

// Work space of one thread, on lines of the cache: the same buffers for every block, because fresh pages cost as much as a step.
template <class F> class Space {
 public:
  void restart() { next_ = 0; }
  F *take(int64_t size) {
    if (next_ == held_.size()) held_.emplace_back();
    auto &slot = held_[next_++];
    if (slot.size < size) {
      slot.memory.reset();
      slot.memory.reset(static_cast<F *>(::operator new(sizeof(F) * std::max<int64_t>(size, 1), std::align_val_t(LINE))));
      slot.size = size;
    }
    return slot.memory.get();
  }

 private:
  struct Free {
    void operator()(F *p) const { ::operator delete(p, std::align_val_t(LINE)); }
  };
  struct Slot {
    std::unique_ptr<F, Free> memory;
    int64_t size = -1;
  };
  std::vector<Slot> held_;
  size_t next_ = 0;
};

// The order in which buyers are taken: within a window, those with many inputs first, so that neighbours have about equally many. The sums at the suppliers
// follow it, and it depends on nothing but the network.
inline std::vector<int32_t> buyers_in_order(int64_t M, const int64_t *ptr) {
  constexpr int BUCKETS = 256;
  std::vector<int32_t> order(M);
  for (int64_t begin = 0; begin < M; begin += WINDOW) {
    const int64_t end = std::min(M, begin + WINDOW);
    int64_t place[BUCKETS + 1] = {};
    const auto bucket = [&](int64_t i) { return BUCKETS - 1 - int(std::min<int64_t>(ptr[i + 1] - ptr[i], BUCKETS - 1)); };
    for (int64_t i = begin; i < end; i++) place[bucket(i) + 1]++;
    for (int k = 0; k < BUCKETS; k++) place[k + 1] += place[k];
    const int64_t many = place[1];
    for (int64_t i = begin; i < end; i++) order[begin + place[bucket(i)]++] = int32_t(i);
    std::stable_sort(&order[begin], &order[begin] + many, [&](int32_t i, int32_t j) { return ptr[i + 1] - ptr[i] > ptr[j + 1] - ptr[j]; });
  }
  return order;
}

// The edges one after the other, buyers in order.
template <class F> struct Listed {
  std::vector<int32_t> buyers, sources, places;
  std::vector<int64_t> pointers;
  std::vector<F> coefficients, uses, inverses;
  const int32_t *buyer = nullptr, *edge = nullptr;  // null: as they lie
  const int64_t *ptr;
  const int32_t *src;
  const F *a, *use, *ia;

  explicit Listed(const Problem<F> &p) : ptr(p.ptr), src(p.src), a(p.a), use(p.use) {
    inverses.resize(p.E);
    if (p.E <= LARGE) {
      buyers = buyers_in_order(p.M, p.ptr);
      pointers.reserve(p.M + 1);
      pointers.push_back(0);
      for (auto *v : {&sources, &places}) v->reserve(p.E);
      for (auto *v : {&coefficients, &uses}) v->reserve(p.E);
      for (const int32_t i : buyers) {
        for (int64_t e = p.ptr[i]; e < p.ptr[i + 1]; e++)
          sources.push_back(p.src[e]), places.push_back(int32_t(e)), coefficients.push_back(p.a[e]), uses.push_back(p.use[e]);
        pointers.push_back(int64_t(sources.size()));
      }
      buyer = buyers.data(), edge = places.data(), ptr = pointers.data(), src = sources.data(), a = coefficients.data(), use = uses.data();
    }
    for (int64_t e = 0; e < p.E; e++) inverses[e] = F(1) / a[e];
    ia = inverses.data();
  }
  int64_t firm(int64_t k) const { return buyer ? buyer[k] : k; }
  int64_t place(int64_t e) const { return edge ? edge[e] : e; }
};

// The edges for vectors across buyers: W buyers side by side, the first input of each, then the second ... Slots that all W buyers fill come first in a
// group; the rest hold as many as there are, without gaps. Firms have the numbers of their places among the buyers, the last group is filled up.
template <class F> struct Jagged {
  static constexpr int W = int(VECTOR / sizeof(F));
  std::vector<int32_t> buyer, src, edge;
  std::vector<int64_t> start;                          // of every slot of every group, and the end
  std::vector<int64_t> first;                          // of a group's slots in `start`
  std::vector<int32_t> full, lanes;                    // slots that all buyers fill; buyers of the group
  std::vector<F> a, use, ia;
  int64_t groups, places, most = 0;                    // most edges in a group

  explicit Jagged(const Problem<F> &p) : buyer(buyers_in_order(p.M, p.ptr)), groups((p.M + W - 1) / W), places(groups * W) {
    const auto inputs = [&](int64_t k) { return p.ptr[buyer[k] + 1] - p.ptr[buyer[k]]; };
    edge.resize(p.E), src.resize(p.E), a.resize(p.E), use.resize(p.E), ia.resize(p.E);
    first.reserve(groups + 1), full.reserve(groups), lanes.reserve(groups);
    int64_t at = 0;
    for (int64_t g = 0; g < groups; g++) {
      const int64_t begin = g * W, from = at;
      int here = int(std::min<int64_t>(W, p.M - begin));
      first.push_back(int64_t(start.size()));
      lanes.push_back(here);
      full.push_back(here == W ? int32_t(inputs(begin + W - 1)) : 0);
      const int64_t slots = inputs(begin);
      for (int64_t k = 0; k < slots; k++) {
        while (inputs(begin + here - 1) <= k) here--;
        start.push_back(at);
        for (int b = 0; b < here; b++) edge[at++] = int32_t(p.ptr[buyer[begin + b]] + k);
      }
      most = std::max(most, at - from);
    }
    first.push_back(int64_t(start.size()));
    start.push_back(at);
    std::vector<int32_t> place(p.M);
    for (int64_t k = 0; k < p.M; k++) place[buyer[k]] = int32_t(k);
    for (int64_t e = 0; e < p.E; e++) {
      const int32_t from = edge[e];
      src[e] = place[p.src[from]], a[e] = p.a[from], use[e] = p.use[from], ia[e] = F(1) / a[e];
    }
    buyer.resize(places, buyer.back());
  }
  int64_t begin(int64_t g) const { return start[first[g]]; }
  // Calls what(place) for the edges of lane b of group g, in their order.
  template <class What> void of(int64_t g, int b, What what) const {
    const int64_t *s = &start[first[g]];
    const int64_t whole = full[g], slots = first[g + 1] - first[g];
    for (int64_t k = 0, e = s[0] + b; k < whole; k++, e += W) what(e);
    for (int64_t k = whole; k < slots && s[k] + b < s[k + 1]; k++) what(s[k] + b);
  }
};

// One number, or a vector of them, so that one formula serves both.
template <class F> struct One {
  using Number = F;
  static constexpr bool vector = false;
  static F load(const F *p) { return *p; }
  static void store(F *p, F v) { *p = v; }
  static F gather(const F *from, const int32_t *index) { return from[*index]; }
};
template <class F> struct Many {
  static constexpr int W = int(VECTOR / sizeof(F));
  static constexpr bool vector = true;
  typedef F Number __attribute__((vector_size(VECTOR)));
  static Number load(const F *p) {
    Number v;
    std::memcpy(&v, p, VECTOR);
    return v;
  }
  static void store(F *p, Number v) { std::memcpy(p, &v, VECTOR); }
  static Number gather(const F *from, const int32_t *index) {
    Number v;
#pragma GCC unroll 16
    for (int b = 0; b < W; b++) v[b] = from[index[b]];
    return v;
  }
};

template <class N> inline N smaller(N a, N b) { return b < a ? b : a; }
template <class N> inline N positive(N a) { return a > N{} ? a : N{}; }

// Row t of a grid for the columns from `col`, as (M, W): where it lies if it lies so, else a copy, which is kept while it is asked for again.
template <class F, int W> class Row {
 public:
  Row(const Grid<F> &grid, int64_t M, int64_t col, Space<F> &space) : grid_(grid), M_(M), col_(col) {
    direct_ = grid && (W == 1 || grid.column == 1);
    if (!direct_) room_ = space.take(M * W);
    row = direct_ ? grid.row : W;
  }
  const F *at(int64_t t) {
    if (!grid_) {
      if (!held_) std::fill_n(room_, M_ * W, F(0));
      held_ = room_;
      return room_;
    }
    const F *from = grid_.data + t * grid_.step + col_ * grid_.column;
    if (direct_) return from;
    if (from != held_) {
      for (int64_t i = 0; i < M_; i++)
        for (int b = 0; b < W; b++) room_[i * W + b] = from[i * grid_.row + b * grid_.column];
      held_ = from;
    }
    return room_;
  }
  int64_t row;

 private:
  Grid<F> grid_;
  int64_t M_, col_;
  bool direct_;
  F *room_ = nullptr;
  const F *held_ = nullptr;
};

// (M, W) of a level for the columns from `col`.
template <class F, int W> F *level(const Grid<F> &grid, int64_t M, int64_t col, Space<F> &space) {
  F *room = space.take(M * W);
  for (int64_t i = 0; i < M; i++)
    for (int b = 0; b < W; b++) room[i * W + b] = grid.at(i, col + b);
  return room;
}

}  // namespace dpsc
