// DemodBiasAct, FilteredBiasAct, UpFirDn2d.
#pragma once

#include "../bias_act.h"
#include "../bias_act_nhwc.h"
#include "../fir.h"
#include "../fir_nhwc.h"
#include "node.h"

namespace edgegrain {

// Neighbouring pixels (or channels, in channels-last maps) of an item on the CPU, where there are as many: enough to
// make up for finding out which they are.
constexpr int kHostRun = 64, kHostChannels = 16;

// The sides of a map in either layout.
struct Map {
  std::int64_t batch, channels, height, width;
  bool channels_last;

  Map(const Shape& x, bool channels_last) : channels_last(channels_last) {
    if (x.size() != 4) {
      refuse(std::string("x must be ") + (channels_last ? "[B, H, W, C]" : "[B, C, H, W]") + ", got " + text(x));
    }
    batch = x[0];
    channels = x[channels_last ? 3 : 1], height = x[channels_last ? 1 : 2], width = x[channels_last ? 2 : 3];
  }

  Shape with(std::int64_t new_channels, std::int64_t new_height, std::int64_t new_width) const {
    return channels_last ? Shape{batch, new_height, new_width, new_channels}
                         : Shape{batch, new_channels, new_height, new_width};
  }

  Shape shape() const { return with(channels, height, width); }
};

// Calls run(N) with the most channels an item of a channels-last kernel may have, as std::integral_constant.
template <class T, bool kCuda, class Run>
void with_channels(std::int64_t channels, bool aligned, Run run) {
  if constexpr (!kCuda) {
    if (channels % kHostChannels == 0) return run(std::integral_constant<int, kHostChannels>{});
  }
  if (channels % kWide<T> == 0 && aligned) {
    run(std::integral_constant<int, kWide<T>>{});
  } else {
    run(std::integral_constant<int, 1>{});
  }
}

// slope, gain and clamp of a layer's activation.
struct Activation {
  float slope, gain, clamp;

  explicit Activation(const Attributes& attributes, float absent_slope = 0.2f)
      : slope(attributes.number("slope", absent_slope)),
        gain(attributes.number("gain", 1.0f)),
        clamp(attributes.number("clamp", 0.0f)) {
    if (!(clamp >= 0.0f)) refuse("clamp must not be negative; 0 is for none");
  }
};

// StyleGAN2's filter: its taps, flipped and scaled, its steps and its padding.
struct Filter {
  float horizontal[kTaps], vertical[kTaps];
  std::int64_t up, down;
  std::array<std::int64_t, 4> pad;  // left, right, above, below

  explicit Filter(const Attributes& attributes)
      : up(attributes.integer("up", 1)), down(attributes.integer("down", 1)), pad(attributes.integers<4>("pad", {})) {
    const auto taps = attributes.numbers<kTaps>("taps", {0.125f, 0.375f, 0.375f, 0.125f});
    const float gain = attributes.number("filter_gain", 1.0f);
    for (int k = 0; k < kTaps; ++k) {
      vertical[k] = taps[kTaps - 1 - k];
      horizontal[k] = taps[kTaps - 1 - k] * gain;
    }
    if (up < 1 || up > 2 || down < 1 || down > 2) refuse("up and down must be 1 or 2");
    for (const std::int64_t side : pad) {
      if (side < 0 || side > 64) refuse("pad must lie in 0...64");
    }
  }

  Shape output(const Map& x) const {
    const std::int64_t height = x.height * up + pad[2] + pad[3] - kTaps, width = x.width * up + pad[0] + pad[1] - kTaps;
    if (height < 0 || width < 0) refuse("x " + text(x.shape()) + " is smaller than the filter");
    return x.with(x.channels, height / down + 1, width / down + 1);
  }

  template <class Kernel>
  void fill(Kernel& kernel) const {
    std::copy_n(horizontal, kTaps, kernel.horizontal);
    std::copy_n(vertical, kTaps, kernel.vertical);
    kernel.pad_x = static_cast<std::int32_t>(pad[0]), kernel.pad_y = static_cast<std::int32_t>(pad[2]);
  }
};

// The tail of a layer from inputs 1 to 4 and the node's one or two outputs, which have the shape of `y`.
template <class T>
Tail<T> tail_of(const Ort::KernelContext& context, const Activation& activation, const Map& y) {
  const Shape per_channel = {y.batch, y.channels};
  Map one = y;
  one.batch = 1;
  const Shape noise = y.with(1, y.height, y.width), shared = one.with(1, y.height, y.width);
  Tail<T> tail{};
  tail.demodulation = optional<float>(context, 1, "demodulation", per_channel);
  tail.noise = static_cast<const T*>(optional(context, 2, "noise", noise, shared));
  tail.noise_stride = tail.noise && input(context, 2).shape[0] > 1 ? y.height * y.width : 0;
  tail.bias = optional<float>(context, 3, "bias", {y.channels});
  tail.style = optional<float>(context, 4, "style", per_channel);
  tail.slope = activation.slope, tail.gain = activation.gain, tail.clamp = activation.clamp;
  T* const first = static_cast<T*>(output(context, 0, y.shape()));
  if (context.GetOutputCount() > 1) {
    if (!tail.style) refuse("a second output needs a style");
    tail.plain = first;
    tail.modulated = static_cast<T*>(output(context, 1, y.shape()));
  } else {
    (tail.style ? tail.modulated : tail.plain) = first;
  }
  return tail;
}

template <class T>
bool is_wide(const Tail<T>& tail) {
  return edgegrain::is_wide(tail.noise) && edgegrain::is_wide(tail.plain) && edgegrain::is_wide(tail.modulated);
}

// For kernels that read factors as vectors, and noise one by one.
template <class T>
bool is_wide_nhwc(const Tail<T>& tail) {
  return edgegrain::is_wide(tail.demodulation) && edgegrain::is_wide(tail.bias) && edgegrain::is_wide(tail.style) &&
         edgegrain::is_wide(tail.plain) && edgegrain::is_wide(tail.modulated);
}

// ------------------------------------------------------------------------------------------------ DemodBiasAct

template <class T, bool kCuda>
class DemodBiasActKernel {
 public:
  explicit DemodBiasActKernel(const Node& node)
      : activation_(node.attributes), channels_last_(node.attributes.flag("channels_last")) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    const Map x(inputs[0], attributes.flag("channels_last"));
    return {x.shape(), x.shape()};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    const Map map(x.shape, channels_last_);
    const Tail<T> tail = tail_of<T>(context, activation_, map);
    if (empty(x.shape)) return;
    if (channels_last_) {
      with_channels<T, kCuda>(map.channels, edgegrain::is_wide(x.data) && is_wide_nhwc(tail), [&](auto n) {
        using Kernel = DemodBiasActNhwc<T, n()>;
        const std::int64_t plane = map.height * map.width;
        const Kernel kernel{static_cast<const T*>(x.data), tail, unsigned(count(map.channels / n())),
                            unsigned(count(pieces(plane, Kernel::kPixels))), plane};
        run<kCuda>(context, kernel, map.batch * kernel.strips * kernel.groups);
      });
      return;
    }
    const std::int64_t plane = map.height * map.width;
    if constexpr (!kCuda) {
      if (plane % kHostRun == 0) return run_as<kHostRun>(context, x, map, tail);
    }
    if (plane % kWide<T> == 0 && edgegrain::is_wide(x.data) && is_wide(tail)) {
      run_as<kWide<T>>(context, x, map, tail);
    } else {
      run_as<1>(context, x, map, tail);
    }
  }

 private:
  template <int N>
  void run_as(const Ort::KernelContext& context, const Input& x, const Map& map, const Tail<T>& tail) const {
    using Kernel = DemodBiasAct<T, N>;
    const std::int64_t plane = map.height * map.width;
    Kernel kernel{static_cast<const T*>(x.data), tail, unsigned(count(map.channels)),
                  unsigned(count(pieces(map.channels, Kernel::kChannels))), unsigned(count(plane / N)), plane};
    run<kCuda>(context, kernel, map.batch * kernel.groups * kernel.strips);
  }

  Activation activation_;
  bool channels_last_;
};

// ------------------------------------------------------------------------------------------------ filters

template <class T, bool kCuda, bool kTail, int N>
void run_fir_as(const Ort::KernelContext& context, const Filter& filter, const Input& x, const Map& map,
                const Tail<T>& tail, const Map& y) {
  using Kernel = Fir<T, kTail, N>;
  Kernel kernel{};
  kernel.x = static_cast<const T*>(x.data);
  kernel.tail = tail;
  filter.fill(kernel);
  kernel.height = count(map.height), kernel.width = count(map.width);
  kernel.out_height = count(y.height), kernel.out_width = count(y.width);
  kernel.channels = count(y.channels);
  kernel.strips = count(pieces(y.width, N)), kernel.bands = count(pieces(y.height, Kernel::kRows));
  kernel.size = elements(x.shape);
  kernel.wide_in = edgegrain::is_wide(x.data);
  kernel.wide_out = y.width % N == 0 && is_wide(tail);
  run<kCuda>(context, kernel, y.batch * y.channels * kernel.bands * kernel.strips);
}

template <class T, bool kCuda, bool kTail>
void run_fir(const Ort::KernelContext& context, const Filter& filter, const Input& x, const Map& map,
             const Tail<T>& tail, const Map& y) {
  if (map.channels_last) {
    with_channels<T, kCuda>(map.channels, edgegrain::is_wide(x.data) && is_wide_nhwc(tail), [&](auto n) {
      using Kernel = FirNhwc<T, kTail, n()>;
      Kernel kernel{};
      kernel.x = static_cast<const T*>(x.data);
      kernel.tail = tail;
      filter.fill(kernel);
      kernel.height = count(map.height), kernel.width = count(map.width);
      kernel.out_height = count(y.height), kernel.out_width = count(y.width);
      kernel.groups = count(map.channels / n()), kernel.strips = count(pieces(y.width, Kernel::kColumns));
      kernel.bands = count(pieces(y.height, Kernel::kRows));
      run<kCuda>(context, kernel, y.batch * kernel.bands * kernel.strips * kernel.groups);
    });
    return;
  }
  if constexpr (!kCuda) {
    if (y.width % kHostRun == 0) return run_fir_as<T, kCuda, kTail, kHostRun>(context, filter, x, map, tail, y);
  }
  run_fir_as<T, kCuda, kTail, kWide<T>>(context, filter, x, map, tail, y);
}

template <class T, bool kCuda>
class FilteredBiasActKernel {
 public:
  explicit FilteredBiasActKernel(const Node& node)
      : activation_(node.attributes), filter_(filter(node.attributes)),
        channels_last_(node.attributes.flag("channels_last")) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    const Shape y = filter(attributes).output(Map(inputs[0], attributes.flag("channels_last")));
    return {y, y};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    const Map map(x.shape, channels_last_), y(filter_.output(map), channels_last_);
    const Tail<T> tail = tail_of<T>(context, activation_, y);
    if (empty(x.shape)) {
      if (!empty(y.shape())) refuse("x must not be empty, got " + text(x.shape));
      return;
    }
    run_fir<T, kCuda, true>(context, filter_, x, map, tail, y);
  }

 private:
  static Filter filter(const Attributes& attributes) {
    const Filter filter(attributes);
    if (filter.up != 1 || filter.down != 1) refuse("FilteredBiasAct takes no up and no down");
    return filter;
  }

  Activation activation_;
  Filter filter_;
  bool channels_last_;
};

template <class T, bool kCuda>
class UpFirDn2dKernel {
 public:
  explicit UpFirDn2dKernel(const Node& node)
      : filter_(node.attributes), channels_last_(node.attributes.flag("channels_last")) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    return {Filter(attributes).output(Map(inputs[0], attributes.flag("channels_last")))};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    const Map map(x.shape, channels_last_), y(filter_.output(map), channels_last_);
    T* const to = static_cast<T*>(output(context, 0, y.shape()));
    if (empty(x.shape)) {
      if (!empty(y.shape())) refuse("x must not be empty, got " + text(x.shape));
      return;
    }
    if (filter_.up == 1 && filter_.down == 1) {
      Tail<T> tail{};
      tail.plain = to;
      run_fir<T, kCuda, false>(context, filter_, x, map, tail, y);
    } else if (channels_last_) {
      with_channels<T, kCuda>(map.channels, edgegrain::is_wide(x.data) && edgegrain::is_wide(to), [&](auto n) {
        UpFirDnNhwc<T, n()> kernel = kernel_as<UpFirDnNhwc<T, n()>>(x, map, to, y);
        kernel.out_width = count(y.width), kernel.groups = count(map.channels / n());
        run<kCuda>(context, kernel, y.batch * y.height * y.width * kernel.groups);
      });
    } else if (y.width % kWide<T> == 0 && edgegrain::is_wide(to)) {
      run_as<kWide<T>>(context, x, map, to, y);
    } else {
      run_as<1>(context, x, map, to, y);
    }
  }

 private:
  template <class Kernel>
  Kernel kernel_as(const Input& x, const Map& map, T* to, const Map& y) const {
    Kernel kernel{};
    kernel.x = static_cast<const T*>(x.data), kernel.y = to;
    filter_.fill(kernel);
    kernel.height = count(map.height), kernel.width = count(map.width), kernel.out_height = count(y.height);
    kernel.up = static_cast<std::int32_t>(filter_.up), kernel.down = static_cast<std::int32_t>(filter_.down);
    return kernel;
  }

  template <int N>
  void run_as(const Ort::KernelContext& context, const Input& x, const Map& map, T* to, const Map& y) const {
    auto kernel = kernel_as<UpFirDn<T, N>>(x, map, to, y);
    kernel.strips = count(y.width / N);
    run<kCuda>(context, kernel, y.batch * y.channels * y.height * kernel.strips);
  }

  Filter filter_;
  bool channels_last_;
};

}  // namespace edgegrain
