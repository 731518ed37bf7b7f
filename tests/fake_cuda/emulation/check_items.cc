// Random runs of the kernels of launch.cu against float64.
//   check_items [CASES] [SEED]
#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <sstream>

#include "device.h"
#include "fir.h"
#include "haar.h"
#include "launch.h"
#include "modulation.h"
#include "quantization.h"
#include "random_tensor.h"
#include "upsample.h"

namespace check {
namespace {

using namespace edgegrain;

// The list in launch.cu: 6 kernels for two numbers of elements and two types, UpFirDn and ModulationFactors.
constexpr std::size_t kKernels = 6 * 2 * 2 + 2;
constexpr float kTapValues[kTaps] = {0.1f, 0.35f, 0.4f, 0.2f};  // not symmetric

std::uint32_t pieces(std::int64_t whole, std::int64_t part) {
  return static_cast<std::uint32_t>((whole + part - 1) / part);
}

struct Sides {
  int batch, channels, height, width;

  std::size_t size() const { return static_cast<std::size_t>(batch) * channels * height * width; }
  std::size_t at(int b, int c, int row, int column) const {
    return ((static_cast<std::size_t>(b) * height + row) * width + column) * channels + c;
  }
  std::string text() const {
    std::ostringstream stream;
    stream << '[' << batch << ", " << height << ", " << width << ", " << channels << ']';
    return stream.str();
  }
};

Sides draw_sides() {
  return {draw(1, 3), chance(50) ? 8 * draw(1, 3) : draw(1, 9), draw(1, 24), draw(1, 24)};
}

// Elements behind a multiple of 16 bytes; mostly none.
int offset() { return chance(75) ? 0 : draw(1, 7); }

void must_launch(const char* error, const std::string& what) {
  if (error) {
    std::printf("WRONG: %s: %s\n", error, what.c_str());
    std::exit(1);
  }
}

// Calls run(N) with the elements of an item: as many as fit into 16 bytes where `wide`.
template <class T, class Run>
void with_elements(bool wide, Run run) {
  if (wide) {
    run(std::integral_constant<int, kWide<T>>{});
  } else {
    run(std::integral_constant<int, 1>{});
  }
}

using Value = std::function<double(int b, int c, int row, int column)>;

template <class Visit>
void for_each_value(const Sides& y, Visit visit) {
  for (int b = 0; b < y.batch; ++b) {
    for (int c = 0; c < y.channels; ++c) {
      for (int row = 0; row < y.height; ++row) {
        for (int column = 0; column < y.width; ++column) visit(b, c, row, column);
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------ filters

template <class T>
Value filtered(const Tensor<T>& x, const Sides& from, int up, int left, int above) {
  return [&x, from, up, left, above](int b, int c, int row, int column) {
    double sum = 0;
    for (int j = 0; j < kTaps; ++j) {
      for (int k = 0; k < kTaps; ++k) {
        const int v = row + j - above, u = column + k - left;
        if (v < 0 || u < 0 || v % up || u % up || v / up >= from.height || u / up >= from.width) continue;
        sum += 4.0 * kTapValues[3 - j] * kTapValues[3 - k] * x[from.at(b, c, v / up, u / up)];
      }
    }
    return sum;
  };
}

// A filter of x with random padding, and the sides of its result.
template <class Kernel>
Sides draw_filter(Kernel& kernel, const Sides& from, int up) {
  const bool usual = chance(50);
  const int left = usual ? 1 : draw(0, 5), right = usual ? 1 : draw(0, 5);
  const int above = usual ? 1 : draw(0, 5), below = usual ? 1 : draw(0, 5);
  Sides y = from;
  y.height = up * from.height + above + below - 3, y.width = up * from.width + left + right - 3;
  for (int k = 0; k < kTaps; ++k) kernel.vertical[k] = kTapValues[3 - k], kernel.horizontal[k] = 4 * kTapValues[3 - k];
  kernel.height = from.height, kernel.width = from.width, kernel.out_height = y.height, kernel.out_width = y.width;
  kernel.pad_x = left, kernel.pad_y = above;
  return y;
}

template <class T>
void check_filtered_bias_act() {
  const Sides from = draw_sides();
  with_elements<T>(from.channels % kWide<T> == 0, [&](auto n) {
    FilteredBiasAct<T, n()> kernel{};
    const Sides y = draw_filter(kernel, from, 1);
    if (y.height < 1 || y.width < 1) return;
    const int skip = n() == 1 ? offset() : 0;
    const auto x = filled<T>(from.size(), 1.0, skip), noise = filled<T>(y.height * y.width, 1.0, offset());
    const auto demodulation = filled<float>(y.batch * y.channels), style = filled<float>(y.batch * y.channels);
    const auto bias = filled<float>(y.channels);
    Tensor<T> result(y.size(), skip);
    result.fill_with(NAN);
    const Tail<T> tail{demodulation->data(), noise->data(), bias->data(), style->data(), result.data(),
                       chance(80) ? 0.2f : 1.0f, 1.41421356f, chance(40) ? 1.0f : 0.0f};
    kernel.x = x->data(), kernel.tail = tail;
    kernel.groups = y.channels / n(), kernel.strips = pieces(y.width, kernel.kColumns);
    kernel.bands = pieces(y.height, kernel.kRows);
    const std::string what = "FilteredBiasAct " + from.text() + " -> " + y.text();
    must_launch(launch(kernel, y.batch * kernel.bands * kernel.strips * kernel.groups, nullptr), what);
    const Value wanted = filtered(*x, from, 1, kernel.pad_x, kernel.pad_y);
    for_each_value(y, [&](int b, int c, int row, int column) {
      const int factor = b * y.channels + c;
      double value = wanted(b, c, row, column) * (*demodulation)[factor];
      value += (*noise)[row * y.width + column] + (*bias)[c];
      value *= (value < 0 ? static_cast<double>(tail.slope) : 1.0) * tail.gain;
      if (tail.clamp > 0) value = std::fmin(std::fmax(value, -tail.clamp), tail.clamp);
      const double scale = 20 * std::fabs((*demodulation)[factor]) + 10;
      compare<T>(result[y.at(b, c, row, column)], value * (*style)[factor], scale * (1 + std::fabs((*style)[factor])),
                 what);
    });
  });
}

void check_up_fir_down() {
  const Sides from = draw_sides();
  UpFirDn kernel{};
  const Sides y = draw_filter(kernel, from, 2);
  if (y.height < 1 || y.width < 1) return;
  const auto x = filled<float>(from.size());
  Tensor<float> result(y.size());
  result.fill_with(NAN);
  kernel.x = x->data(), kernel.y = result.data(), kernel.channels = y.channels;
  const std::string what = "UpFirDn " + from.text() + " -> " + y.text();
  must_launch(launch(kernel, y.size(), nullptr), what);
  const Value wanted = filtered(*x, from, 2, kernel.pad_x, kernel.pad_y);
  for_each_value(y, [&](int b, int c, int row, int column) {
    compare<float>(result[y.at(b, c, row, column)], wanted(b, c, row, column), 20, what);
  });
}

// ------------------------------------------------------------------------------------------------ other kernels

template <class T>
void check_haar() {
  Sides y = draw_sides();
  y.height *= 2, y.width *= 2;
  Sides bands = y;
  bands.height /= 2, bands.width /= 2, bands.channels *= 4;
  const auto x = filled<T>(bands.size(), 1.0, offset());
  const auto style = chance(70) ? filled<float>(bands.batch * bands.channels) : nullptr;
  Tensor<T> result(y.size(), offset());
  result.fill_with(NAN);
  const float* const factors = style ? style->data() : nullptr;
  const std::string what = "InverseHaar " + y.text();
  const bool aligned = is_wide(x->data()) && is_wide(result.data());
  with_elements<T>(y.channels % kWide<T> == 0 && aligned, [&](auto n) {
    const InverseHaar<T, n()> kernel{x->data(), factors, result.data(), 0.5f, std::uint32_t(y.channels / n()),
                                     std::uint32_t(bands.height), std::uint32_t(bands.width)};
    must_launch(launch(kernel, y.batch * bands.height * bands.width * kernel.groups, nullptr), what);
  });
  for_each_value(y, [&](int b, int c, int row, int column) {
    double sum = 0, size = 1;
    for (int band = 0; band < 4; ++band) {
      const bool minus = (row % 2 && band % 2) != (column % 2 && band / 2);
      const double factor = style ? (*style)[b * bands.channels + band * y.channels + c] : 1.0;
      const double value = 0.5 * factor * (*x)[bands.at(b, band * y.channels + c, row / 2, column / 2)];
      sum += minus ? -value : value, size += std::fabs(value);
    }
    compare<T>(result[y.at(b, c, row, column)], sum, size, what);
  });
}

template <class T, bool kBilinear>
void check_upsample() {
  const Sides from = draw_sides();
  Sides y = from;
  y.height *= 2, y.width *= 2;
  const auto x = filled<T>(from.size(), 1.0, offset());
  Tensor<T> result(y.size(), offset());
  result.fill_with(NAN);
  const std::string what = "Upsample " + from.text();
  with_elements<T>(from.channels % kWide<T> == 0 && is_wide(x->data()) && is_wide(result.data()), [&](auto n) {
    const Upsample<T, kBilinear, n()> kernel{x->data(), result.data(), from.height, from.width,
                                             std::uint32_t(from.channels / n())};
    must_launch(launch(kernel, from.batch * from.height * from.width * kernel.groups, nullptr), what);
  });
  for_each_value(y, [&](int b, int c, int row, int column) {
    const auto read = [&](int r, int k) {
      return (*x)[from.at(b, c, std::clamp(r, 0, from.height - 1), std::clamp(k, 0, from.width - 1))];
    };
    const int r = row / 2, k = column / 2, dr = row % 2 ? 1 : -1, dk = column % 2 ? 1 : -1;
    const double wanted = !kBilinear ? read(r, k)
                                     : 0.75 * (0.75 * read(r, k) + 0.25 * read(r, k + dk)) +
                                           0.25 * (0.75 * read(r + dr, k) + 0.25 * read(r + dr, k + dk));
    compare<T>(result[y.at(b, c, row, column)], wanted, 4, what);
  });
}

template <class T>
void check_quantization() {
  const int count = draw(1, 200) * (chance(50) ? 8 : 1);
  std::vector<float> steps(count);
  Tensor<std::uint8_t> levels(count), back(count);
  Tensor<T> values(count);
  for (int i = 0; i < count; ++i) levels.data()[i] = static_cast<std::uint8_t>(draw(0, 255));
  const std::string what = "Dequantize and Quantize";
  with_elements<T>(count % kWide<T> == 0, [&](auto n) {
    must_launch(launch(Dequantize<T, n()>{levels.data(), values.data()}, count / n(), nullptr), what);
  });
  for (int i = 0; i < count; ++i) {
    compare<T>(values[i], levels.data()[i] / 127.5 - 1, 1, what);
    values.data()[i] = from_float<T>(static_cast<float>(values[i]) + (chance(10) ? draw(-3, 3) : 0.0f));
  }
  with_elements<T>(count % kWide<T> == 0, [&](auto n) {
    must_launch(launch(Quantize<T, n()>{values.data(), back.data()}, count / n(), nullptr), what);
  });
  for (int i = 0; i < count; ++i) {  // as numpy computes it
    const float scaled = std::floor((static_cast<float>(values[i]) + 1.0f) * 127.5f + 0.5f);
    if (back.data()[i] != std::clamp(scaled, 0.0f, 255.0f)) {
      std::printf("WRONG: level %d of %g\n", back.data()[i], values[i]);
      std::exit(1);
    }
  }
}

void check_modulation() {
  const int batch = draw(1, 3), channels = draw(1, 70), outputs = draw(1, 70);
  const auto style = filled<float>(batch * channels), squares = filled<float>(channels * outputs);
  for (std::size_t i = 0; i < squares->size(); ++i) squares->data()[i] = std::fabs(squares->data()[i]);
  const auto norm = filled<float>(outputs);
  Tensor<float> factors(batch * channels), gains(batch * outputs);
  ModulationFactors<1> kernel{};
  kernel.style = style->data(), kernel.squares = squares->data(), kernel.norm = chance(50) ? norm->data() : nullptr;
  kernel.factors = factors.data(), kernel.gain = gains.data();
  kernel.channels = channels, kernel.outputs = outputs, kernel.gain_items = outputs, kernel.style_items = channels;
  kernel.demodulate = chance(70), kernel.normalize = chance(50), kernel.epsilon = 1e-8f;
  must_launch(launch(kernel, batch * (outputs + channels), nullptr), "ModulationFactors");
  for (int b = 0; b < batch; ++b) {
    double peak = 0;
    for (int c = 0; c < channels; ++c) peak = std::max(peak, std::fabs((*style)[b * channels + c]));
    if (!kernel.normalize) peak = 1;
    for (int c = 0; c < channels; ++c) {
      compare<float>(factors[b * channels + c], (*style)[b * channels + c] / peak, 1, "ModulationFactors");
    }
    for (int o = 0; o < outputs; ++o) {
      double sum = kernel.epsilon, gain = 1;
      for (int c = 0; c < channels; ++c) {
        sum += (*style)[b * channels + c] * (*style)[b * channels + c] * (*squares)[c * outputs + o];
      }
      if (kernel.demodulate) gain = 1 / std::sqrt(sum);
      if (kernel.normalize) gain *= peak * (kernel.norm ? (*norm)[o] : 1.0);
      compare<float>(gains[b * outputs + o], gain, 1 + std::fabs(gain), "ModulationFactors");
    }
  }
}

template <class T>
void check_random_case() {
  check_filtered_bias_act<T>();
  check_filtered_bias_act<T>();
  check_haar<T>();
  check_upsample<T, false>();
  check_upsample<T, true>();
  check_quantization<T>();
}

}  // namespace
}  // namespace check

int main(int count, char** arguments) {
  const int cases = count > 1 ? std::atoi(arguments[1]) : 100;
  check::random_source().seed(count > 2 ? std::atoi(arguments[2]) : 1);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < cases; ++i) {
    check::check_random_case<float>();
    check::check_random_case<check::Half>();
    check::check_up_fir_down();
    check::check_modulation();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%d rounds are right, by %zu of %zu kernels, in %.1f s\n", cases, emulation::launched_kernels(),
              check::kKernels, seconds);
  return emulation::launched_kernels() == check::kKernels ? 0 : 1;
}
