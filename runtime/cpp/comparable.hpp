// Tells whether a frame can be compared with the good images of the fit, by the rules of comparable.py and turned.py in
// padim_edge_model, which give the reasons for them. Everything is computed in double.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace comparable {
using Plane = std::vector<double>;  // h x w, row by row
using Spectrum = std::vector<std::complex<double>>;
struct Grid { int h, w; };

// The object "reference" of the metadata. It holds no other object, and its texts hold neither quotes nor brackets.
class Reference {
  std::string text;
  std::size_t find(const std::string& key) const {
    const std::size_t at = text.find('"' + key + "\":");
    return at == std::string::npos ? at : text.find_first_not_of(' ', at + key.size() + 3);
  }

 public:
  explicit Reference(const std::string& metadata) {
    const std::size_t at = metadata.find("\"reference\":");
    if (at != std::string::npos) text = metadata.substr(at, metadata.find('}', at) - at);
  }
  std::vector<double> numbers(const std::string& key) const {  // none where the key is missing
    std::vector<double> found;
    const std::size_t at = find(key);
    if (at == std::string::npos) return found;
    const bool list = text[at] == '[';
    for (const char* next = text.c_str() + at + list;;) {
      char* end;
      const double value = std::strtod(next, &end);
      if (end == next) return found;
      found.push_back(value);
      if (!list || *end != ',') return found;
      next = end + 1;
    }
  }
  Plane bytes(const std::string& key, double unit) const {  // from base64
    static const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    Plane found;
    const std::size_t at = find(key);
    unsigned bits = 0, have = 0;
    for (std::size_t i = at + 1; at != std::string::npos && i < text.size(); ++i) {
      const std::size_t digit = digits.find(text[i]);
      if (digit == std::string::npos) break;
      bits = bits << 6 | static_cast<unsigned>(digit);
      if ((have += 6) >= 8) found.push_back((bits >> (have -= 8) & 255u) * unit);
    }
    return found;
  }
};

inline double mean_of(const Plane& p) {
  return std::accumulate(p.begin(), p.end(), 0.0) / static_cast<double>(p.size());
}
inline double dot(const Plane& a, const Plane& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }
inline double spread_of(const Plane& p) {
  const double mean = mean_of(p);
  return std::sqrt(std::max(0.0, std::accumulate(p.begin(), p.end(), 0.0, [mean](double sum, double x) {
    return sum + (x - mean) * (x - mean); }) / static_cast<double>(p.size())));
}
template <class Values> double element(Values values, std::size_t at) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return static_cast<double>(values[at]);
}

inline Plane thumbnail(const std::uint8_t* frame, std::int64_t height, std::int64_t width, Grid grid) {
  Plane small;
  for (std::int64_t i = 0; i < grid.h; ++i)
    for (std::int64_t j = 0; j < grid.w; ++j) {
      const std::int64_t top = i * height / grid.h, low = (i + 1) * height / grid.h;
      const std::int64_t left = j * width / grid.w, right = (j + 1) * width / grid.w;
      std::int64_t sum = 0;
      for (std::int64_t y = top; y < low; ++y)
        sum = std::accumulate(frame + 3 * (y * width + left), frame + 3 * (y * width + right), sum);
      small.push_back(static_cast<double>(sum) / static_cast<double>(3 * (low - top) * (right - left)));
    }
  return small;
}

inline std::array<Plane, 2> gradient(const Plane& p, Grid grid) {  // down and right; 0 on a side of one patch
  std::array<Plane, 2> found{Plane(p.size()), Plane(p.size())};
  for (int i = 0; i < grid.h; ++i)
    for (int j = 0; j < grid.w; ++j) {
      const int at = i * grid.w + j, up = std::max(i - 1, 0), low = std::min(i + 1, grid.h - 1);
      const int left = std::max(j - 1, 0), right = std::min(j + 1, grid.w - 1);
      if (std::min(grid.h, grid.w) < 2) continue;
      found[0][at] = (p[low * grid.w + j] - p[up * grid.w + j]) / (low - up);
      found[1][at] = (p[i * grid.w + right] - p[i * grid.w + left]) / (right - left);
    }
  return found;
}

inline void transform(Spectrum& s, int count, int length, int apart, int step, double sign) {  // along one axis
  Spectrum turn(length), row(length);
  for (int k = 0; k < length; ++k) turn[k] = std::polar(1.0, sign * 2 * std::acos(-1.0) * k / length);
  for (int line = 0; line < count; ++line) {
    for (int k = 0; k < length; ++k) {
      row[k] = 0;
      for (int x = 0; x < length; ++x) row[k] += s[line * apart + x * step] * turn[static_cast<long>(k) * x % length];
    }
    for (int k = 0; k < length; ++k) s[line * apart + k * step] = row[k];
  }
}
inline void transform(Spectrum& s, Grid grid, double sign) {
  transform(s, grid.h, grid.w, grid.w, 1, sign);
  transform(s, grid.w, grid.h, 1, grid.w, sign);
}
inline Spectrum spectrum(const Plane& p, Grid grid) {
  const auto slopes = gradient(p, grid);
  Plane edges(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) edges[i] = std::hypot(slopes[0][i], slopes[1][i]);
  const double mean = mean_of(edges), circle = 2 * std::acos(-1.0);
  Spectrum found(p.size());
  for (int i = 0; i < grid.h; ++i)
    for (int j = 0; j < grid.w; ++j)
      found[i * grid.w + j] = (edges[i * grid.w + j] - mean) * (0.5 - 0.5 * std::cos(circle * (i + 1) / (grid.h + 1))) *
                              (0.5 - 0.5 * std::cos(circle * (j + 1) / (grid.w + 1)));
  transform(found, grid, -1);
  return found;
}

inline std::array<int, 2> shift(const Plane& small, const Plane& mean, Grid grid) {
  if (std::min(grid.h, grid.w) < 2) return {0, 0};
  Spectrum both = spectrum(small, grid);
  const Spectrum other = spectrum(mean, grid);
  for (std::size_t i = 0; i < both.size(); ++i) {
    both[i] *= std::conj(other[i]);
    both[i] /= std::sqrt(std::abs(both[i]) + 1e-12);
  }
  transform(both, grid, 1);
  const auto at = [&](int i, int j) {
    return both[(i + grid.h) % grid.h * grid.w + (j + grid.w) % grid.w].real() / static_cast<double>(both.size());
  };
  const int down = std::max(1, grid.h / 4), right = std::max(1, grid.w / 4);
  std::array<int, 2> best{-down, -right};
  for (int i = -down; i <= down; ++i)
    for (int j = -right; j <= right; ++j)
      if (at(i, j) > at(best[0], best[1])) best = {i, j};
  const double peak = at(best[0], best[1]);
  return peak <= 0 || at(0, 0) > 0.9 * peak ? std::array<int, 2>{0, 0} : best;
}

inline bool explains(std::array<int, 2> by, const Plane& small, const Plane& mean, Grid grid) {
  Plane back, rest;
  for (int i = std::max(0, by[0]); i < grid.h + std::min(0, by[0]); ++i)
    for (int j = std::max(0, by[1]); j < grid.w + std::min(0, by[1]); ++j) {
      back.push_back(small[i * grid.w + j] - mean[(i - by[0]) * grid.w + j - by[1]]);
      rest.push_back(small[i * grid.w + j] - mean[i * grid.w + j]);
    }
  const auto off = [](const Plane& p) {
    const double middle = (element(p, (p.size() - 1) / 2) + element(p, p.size() / 2)) / 2;
    const auto add = [middle](double sum, double x) { return sum + std::abs(x - middle); };
    return std::accumulate(p.begin(), p.end(), 0.0, add) / static_cast<double>(p.size());
  };
  return off(back) < 0.9 * off(rest);
}

inline void project_out(Plane& p, const std::vector<Plane>& still) {
  for (const Plane& each : still) {
    const double share = dot(p, each);
    for (std::size_t i = 0; i < p.size(); ++i) p[i] -= share * each[i];
  }
}

inline bool turned(const Plane& small, const Plane& mean, const Plane& deviation, Grid grid, const Plane& limits) {
  Plane scale(mean.size());
  for (std::size_t i = 0; i < mean.size(); ++i) scale[i] = std::sqrt(deviation[i] * deviation[i] + 4);
  const auto slopes = gradient(mean, grid);
  std::vector<Plane> still;
  for (const Plane& change : {Plane(mean.size(), 1.0), mean, slopes[0], slopes[1]}) {
    Plane next(change.size());
    for (std::size_t i = 0; i < change.size(); ++i) next[i] = change[i] / scale[i];
    const double before = std::sqrt(dot(next, next));
    for (int again = 0; again < 2; ++again) project_out(next, still);
    const double length = std::sqrt(dot(next, next));
    if (length <= 1e-6 * before) continue;  // also where there is no change at all
    for (double& x : next) x /= length;
    still.push_back(next);
  }
  for (std::size_t k = 0; k < limits.size(); ++k) {
    if (limits[k] <= 0 || (grid.h != grid.w && k != 1)) continue;
    Plane towards(mean.size()), off(mean.size());
    for (int i = 0; i < grid.h; ++i)
      for (int j = 0; j < grid.w; ++j) {
        const int at = i * grid.w + j, from = k == 0   ? j * grid.w + grid.w - 1 - i
                                              : k == 1 ? (grid.h - 1 - i) * grid.w + grid.w - 1 - j
                                                       : (grid.h - 1 - j) * grid.w + i;
        towards[at] = (mean[from] - mean[at]) / scale[at];
        const double most = std::max(6.0, std::abs(towards[at]));
        off[at] = std::clamp((small[at] - mean[at]) / scale[at], -most, most);
      }
    project_out(towards, still);
    const double length = dot(towards, towards);
    if (length > 1e-9 * static_cast<double>(mean.size()) && dot(off, towards) / length > limits[k]) return true;
  }
  return false;
}

inline bool exposed_otherwise(const Plane& small, const Plane& mean, const Plane& bright, const Plane& contrast) {
  const auto inside = [](double value, const Plane& seen) {
    const double room = 0.5 * (seen[1] - seen[0]) + 3;
    return seen[0] - room <= value && value <= seen[1] + room;
  };
  if (spread_of(small) < contrast[0] / 3) return true;
  Plane off(small.size()), rest = small;
  for (std::size_t i = 0; i < small.size(); ++i) off[i] = std::abs(small[i] - mean[i]);
  const double most = element(off, off.size() - 1 - off.size() / 10);
  for (std::size_t i = 0; i < small.size(); ++i)
    if (off[i] > most) rest[i] = mean[i];
  return !((inside(mean_of(small), bright) || inside(mean_of(rest), bright)) &&
           (inside(spread_of(small), contrast) || inside(spread_of(rest), contrast)));
}

// Reasons why the frame is not comparable, each with a blank before it; empty for a comparable one.
inline std::string reasons(const std::string& metadata, const std::uint8_t* frame, std::int64_t height,
                           std::int64_t width, const float* patch_distance, Grid grid) {
  const Reference reference(metadata);
  const Plane mean = reference.bytes("mean", 1), deviation = reference.bytes("deviation", 0.25);
  const Plane bright = reference.numbers("brightness"), contrast = reference.numbers("contrast");
  const Plane most = reference.numbers("shift"), turns = reference.numbers("turned"), far = reference.numbers("unlike");
  const std::size_t patches = static_cast<std::size_t>(grid.h) * static_cast<std::size_t>(grid.w);
  if (mean.size() != patches || bright.size() != 2 || contrast.size() != 2 || most.size() != 1)
    throw std::runtime_error("the model does not say how its good images look; export it again with padim-edge");
  const Plane small = thumbnail(frame, height, width, grid);
  const std::vector<float> distances(patch_distance, patch_distance + patches);
  const auto moved = shift(small, mean, grid);
  std::string found;
  if (!far.empty() && far[0] > 0 && element(distances, patches / 4) > far[0]) found += " unlike";
  const bool far_off = std::max(std::abs(moved[0]), std::abs(moved[1])) > most[0] + 1;
  if (most[0] <= 2 && far_off && explains(moved, small, mean, grid)) found += " shift";
  if (deviation.size() == patches && turned(small, mean, deviation, grid, turns)) found += " turned";
  if (exposed_otherwise(small, mean, bright, contrast)) found += " exposure";
  return found;
}
}  // namespace comparable
