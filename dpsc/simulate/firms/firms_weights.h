// Powers of ratios in (0, 1] by sums, products and bits alone, so that they fill vectors; a call of the library's logarithm and exponential for every edge
// and step would take most of a gradient that is read straight-through.
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>

namespace dpsc {

template <class F> struct Format;
template <> struct Format<float> {
  using Bits = uint32_t;
  static constexpr int mantissa = 23, terms = 5, degree = 7;
  static constexpr Bits bias = 127, root_half = 0x3f3504f3;  // sqrt(1/2)
  static constexpr float shift = 0x1p23f, round = 0x1.8p23f, least = -87.0f;
  static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;  // the product of the first with an exponent is exact
};
template <> struct Format<double> {
  using Bits = uint64_t;
  static constexpr int mantissa = 52, terms = 11, degree = 13;
  static constexpr Bits bias = 1023, root_half = 0x3fe6a09e667f3bcd;
  static constexpr double shift = 0x1p52, round = 0x1.8p52, least = -708.0;
  static constexpr double ln2_high = 0x1.62e42fefa3800p-1, ln2_low = 0x1.ef35793c76730p-45;
};

template <class To, class From> inline To same_bits(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

// log x for normal x > 0. With x = 2^n m, m in [sqrt(1/2), sqrt 2), and s = (m - 1) / (m + 1):  n log 2 + 2 (s + s^3 / 3 + s^5 / 5 + ...).
template <class F> inline F log_of(F x) {
  using T = Format<F>;
  using B = typename T::Bits;
  const B bits = same_bits<B>(x), offset = T::bias << T::mantissa;
  const B exponent = (bits - T::root_half + offset) >> T::mantissa;  // n + bias
  const F n = same_bits<F>(B(exponent | same_bits<B>(T::shift))) - (T::shift + F(T::bias));
  const F m = same_bits<F>(B(bits - ((exponent << T::mantissa) - offset)));
  const F s = (m - F(1)) / (m + F(1)), z = s * s;
  F sum = F(1) / F(2 * T::terms + 1);
#pragma GCC unroll 16
  for (int k = T::terms - 1; k > 0; k--) sum = sum * z + F(1) / F(2 * k + 1);
  return n * T::ln2_high + (F(2) * s + (F(2) * s * z * sum + n * T::ln2_low));
}

// exp y for y <= 0; 0 where it would not be a normal number. With y = n log 2 + r, |r| <= log 2 / 2:  2^n (1 + r + r^2 / 2! + ...).
template <class F> inline F exp_of(F y) {
  using T = Format<F>;
  using B = typename T::Bits;
  const F inside = y > T::least ? y : T::least;
  const F turned = inside * F(1.4426950408889634074) + T::round, n = turned - T::round;  // n stands in the last bits of `turned`
  const F r = (inside - n * T::ln2_high) - n * T::ln2_low;
  F sum = F(1);
#pragma GCC unroll 16
  for (int k = T::degree; k > 0; k--) sum = sum * (r * (F(1) / F(k))) + F(1);
  const F power = same_bits<F>(B((same_bits<B>(turned) + T::bias) << T::mantissa));
  return y > T::least ? sum * power : F(0);
}

// low / v for a limit v >= low, at most 1 and never 0 / 0. N is a number of kind F or a vector of them.
template <class F, class N> inline N closeness(N low, N v) {
  const N tiny = N{} + std::numeric_limits<F>::min();
  return (low > tiny ? low : tiny) / (v > tiny ? v : tiny);
}

// ratio^beta for a ratio in [0, 1]; 0 where it is too small to matter.
template <class F> inline F power(F ratio, F beta) {
  const F tiny = std::numeric_limits<F>::min(), below = exp_of(beta * log_of(ratio > tiny ? ratio : tiny));
  return ratio >= F(1) ? F(1) : below;
}

// (low / v)^beta, the weight of one limit.
template <class F> inline F weight(F low, F v, F beta) { return power(closeness<F>(low, v), beta); }

}  // namespace dpsc
