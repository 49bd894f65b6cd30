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
// ptr (N + 1) and index (U): the inputs of each buyer and their products; flow (U, R), recipe, goal (= days recipe), ease (= 1 / (psi goal), 0 where nothing
// binds), base (flow over regions): (U); stock, pull (U): changed.
// sent (I, R) favour times share served, favour (I, R) of the new orders; output, aim (= min(D, cap) without rebuilding), speed (N): by buyer.
// Results: orders (I, R) without favour, limit (N) by the new stocks.
extern "C" void dpsc_ario(const int64_t *sizes, void *const *d) {
  const int64_t N = sizes[0], I = sizes[1], R = N / I;
  const bool alternative = sizes[2];
  const int64_t *ptr = (const int64_t *)d[0];
  const int32_t *index = (const int32_t *)d[1];
  const double *flow = (const double *)d[2], *recipe = (const double *)d[3], *goal = (const double *)d[4], *ease = (const double *)d[5], *base = (const double *)d[6];
  double *__restrict stock = (double *)d[7], *__restrict pull = (double *)d[8];
  const double *sent = (const double *)d[9], *favour = (const double *)d[10], *output = (const double *)d[11], *aim = (const double *)d[12], *speed = (const double *)d[13];
  double *__restrict orders = (double *)d[14], *limit = (double *)d[15];
  for (int64_t f = 0; f < N; f++) orders[f] = 0;
  for (int64_t g = 0; g < N; g++) {
    const double x = output[g], best = aim[g], v = speed[g];
    double low = std::numeric_limits<double>::infinity();
    for (int64_t k = ptr[g]; k < ptr[g + 1]; k++) {
      const double *z = flow + k * R;
      const int64_t at = int64_t(index[k]) * R;
      const double arrives = R == 1 ? z[0] * sent[at] : dot(z, sent + at, R);
      const double used = recipe[k] * x, after = stock[k] + pull[k] * arrives - used, gap = goal[k] * best - after;
      const double order = (gap > 0 ? gap : 0) * v + used, divisor = alternative ? dot(z, favour + at, R) : base[k];
      const double placed = divisor > 0 ? order / divisor : 0;
      stock[k] = after;
      pull[k] = placed;
      double *o = orders + at;
      for (int64_t r = 0; r < R; r++) o[r] += z[r] * placed;
      if (ease[k] > 0 && after * ease[k] < low) low = after * ease[k];
    }
    limit[g] = low;
  }
}
