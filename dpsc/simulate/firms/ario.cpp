// A step of ARIO in one pass over the table.  Compiled on first use by native.py, called through ctypes.
#include <cstdint>
#include <limits>

// ARIO: stocks, orders and the demand they make, in one pass over the table; one column, float64.
// Industries by product, then region; the table and all of a buyer's inputs lie together.
namespace {

constexpr int LANES = 8;

inline double dot(const double *a, const double *b, int64_t n) {
  double lane[LANES] = {0};
  int64_t k = 0;
  for (; k + LANES <= n; k += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += a[k + l] * b[k + l];
  double sum = 0;
  for (int l = 0; l < LANES; l++) sum += lane[l];
  for (; k < n; k++) sum += a[k] * b[k];
  return sum;
}

}  // namespace

// sizes: N, I, alternative.
// flow (N, I, R), recipe, goal (= days recipe), ease (= 1 / (psi goal), 0 where nothing binds), base (flow over regions): (N, I); stock, pull (N, I): changed.
// sent (I, R) favour times share served, favour (I, R) of the new orders; output, aim (= min(D, cap) without rebuilding), speed (N): by buyer.
// Results: orders (I, R) without favour, limit (N) by the new stocks.
extern "C" void dpsc_ario(const int64_t *sizes, void *const *d) {
  const int64_t N = sizes[0], I = sizes[1], R = N / I;
  const bool alternative = sizes[2];
  const double *flow = (const double *)d[0], *recipe = (const double *)d[1], *goal = (const double *)d[2], *ease = (const double *)d[3], *base = (const double *)d[4];
  double *__restrict stock = (double *)d[5], *__restrict pull = (double *)d[6];
  const double *sent = (const double *)d[7], *favour = (const double *)d[8], *output = (const double *)d[9], *aim = (const double *)d[10], *speed = (const double *)d[11];
  double *__restrict orders = (double *)d[12], *limit = (double *)d[13];
  const double infinite = std::numeric_limits<double>::infinity();
  for (int64_t f = 0; f < N; f++) orders[f] = 0;
  for (int64_t g = 0; g < N; g++) {
    const double *z = flow + g * N, *a = recipe + g * I, *w = goal + g * I, *q = ease + g * I, *total = base + g * I;
    double *s = stock + g * I, *y = pull + g * I, low[LANES];
    const double x = output[g], best = aim[g], v = speed[g];
    for (int l = 0; l < LANES; l++) low[l] = infinite;
    if (R == 1) {
      int64_t i = 0;
      const auto one = [&](int64_t k, int l) {
        const double used = a[k] * x, after = s[k] + y[k] * (z[k] * sent[k]) - used, gap = w[k] * best - after;
        const double order = (gap > 0 ? gap : 0) * v + used, divisor = alternative ? z[k] * favour[k] : total[k];
        const double placed = divisor > 0 ? order / divisor : 0, allowed = q[k] > 0 ? after * q[k] : infinite;
        s[k] = after;
        y[k] = placed;
        orders[k] += z[k] * placed;
        low[l] = allowed < low[l] ? allowed : low[l];
      };
      for (; i + LANES <= I; i += LANES) {
#pragma GCC ivdep
        for (int l = 0; l < LANES; l++) one(i + l, l);
      }
      for (; i < I; i++) one(i, 0);
    } else {
      for (int64_t i = 0; i < I; i++) {
        const double *zi = z + i * R;
        const double used = a[i] * x, after = s[i] + y[i] * dot(zi, sent + i * R, R) - used, gap = w[i] * best - after;
        const double order = (gap > 0 ? gap : 0) * v + used, divisor = alternative ? dot(zi, favour + i * R, R) : total[i];
        const double placed = divisor > 0 ? order / divisor : 0;
        s[i] = after;
        y[i] = placed;
        double *o = orders + i * R;
        for (int64_t r = 0; r < R; r++) o[r] += zi[r] * placed;
        if (q[i] > 0 && after * q[i] < low[0]) low[0] = after * q[i];
      }
    }
    for (int l = 1; l < LANES; l++) low[0] = low[l] < low[0] ? low[l] : low[0];
    limit[g] = low[0];
  }
}
