// FilteredBiasAct and UpFirDn2d.
#pragma once

#include "../fir.h"
#include "node.h"

namespace edgegrain {

// Channels of an item on the CPU, where there are as many: enough to make up for finding out which they are.
constexpr int kHostChannels = 16;

// The sides of a map.
struct Map {
  std::int64_t batch, height, width, channels;

  explicit Map(const Shape& x) {
    if (x.size() != 4) refuse("x must be [B, H, W, C], got " + text(x));
    batch = x[0], height = x[1], width = x[2], channels = x[3];
  }

  Shape shape() const { return {batch, height, width, channels}; }
};

// The ops of releases up to 0.6.0, whose decoders had no such attribute, took maps [B, C, H, W].
inline void require_channels_last(const Attributes& attributes) {
  if (attributes.integer("channels_last", 0) != 1) refuse("channels_last must be 1; export the decoder again");
}

// Calls run(N) with the most channels an item of a kernel may have, as std::integral_constant.
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

// StyleGAN2's filter: its taps, flipped and scaled, and its padding.
struct Filter {
  float horizontal[kTaps], vertical[kTaps];
  std::array<std::int64_t, 4> pad;  // left, right, above, below

  explicit Filter(const Attributes& attributes) : pad(attributes.integers<4>("pad", {})) {
    require_channels_last(attributes);
    const auto taps = attributes.numbers<kTaps>("taps", {0.125f, 0.375f, 0.375f, 0.125f});
    const float gain = attributes.number("filter_gain", 1.0f);
    for (int k = 0; k < kTaps; ++k) {
      vertical[k] = taps[kTaps - 1 - k];
      horizontal[k] = taps[kTaps - 1 - k] * gain;
    }
    for (const std::int64_t side : pad) {
      if (side < 0 || side > 64) refuse("pad must lie in 0...64");
    }
  }

  // The result for a map x with up - 1 zeros after every pixel.
  Map output(const Map& x, std::int64_t up) const {
    Map y = x;
    y.height = x.height * up + pad[2] + pad[3] - kTaps + 1, y.width = x.width * up + pad[0] + pad[1] - kTaps + 1;
    if (std::min({x.height, x.width, y.height, y.width}) < 1) {
      refuse("x " + text(x.shape()) + " is smaller than the filter");
    }
    return y;
  }

  template <class Kernel>
  void fill(Kernel& kernel, const Map& x, const Map& y) const {
    std::copy_n(horizontal, kTaps, kernel.horizontal);
    std::copy_n(vertical, kTaps, kernel.vertical);
    kernel.height = count(x.height), kernel.width = count(x.width);
    kernel.out_height = count(y.height), kernel.out_width = count(y.width);
    kernel.pad_x = static_cast<std::int32_t>(pad[0]), kernel.pad_y = static_cast<std::int32_t>(pad[2]);
  }
};

template <class T, bool kCuda>
class FilteredBiasActKernel {
 public:
  explicit FilteredBiasActKernel(const Node& node) : activation_(node.attributes), filter_(node.attributes) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    return {Filter(attributes).output(Map(inputs[0]), 1).shape()};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    const Map map(x.shape), y = filter_.output(map, 1);
    const Tail<T> tail = read_tail(context, y);
    const bool aligned = is_wide(x.data) && is_wide(tail.demodulation) && is_wide(tail.bias) && is_wide(tail.style) &&
                         is_wide(tail.y);
    if (empty(x.shape)) return;
    with_channels<T, kCuda>(map.channels, aligned, [&](auto n) {
      using Kernel = FilteredBiasAct<T, n()>;
      Kernel kernel{};
      kernel.x = static_cast<const T*>(x.data), kernel.tail = tail;
      filter_.fill(kernel, map, y);
      kernel.groups = count(map.channels / n()), kernel.strips = count(pieces(y.width, Kernel::kColumns));
      kernel.bands = count(pieces(y.height, Kernel::kRows));
      run<kCuda>(context, kernel, y.batch * kernel.bands * kernel.strips * kernel.groups);
    });
  }

 private:
  Tail<T> read_tail(const Ort::KernelContext& context, const Map& y) const {
    const Shape per_channel = {y.batch, y.channels};
    Tail<T> tail{};
    tail.demodulation = optional<float>(context, 1, "demodulation", per_channel);
    tail.noise = optional<T>(context, 2, "noise", {1, y.height, y.width, 1});
    tail.bias = optional<float>(context, 3, "bias", {y.channels});
    tail.style = optional<float>(context, 4, "style", per_channel);
    tail.y = static_cast<T*>(output(context, 0, y.shape()));
    tail.slope = activation_.slope, tail.gain = activation_.gain, tail.clamp = activation_.clamp;
    return tail;
  }

  Activation activation_;
  Filter filter_;
};

// Pictures are added in float32.
template <class, bool kCuda>
class UpFirDn2dKernel {
 public:
  explicit UpFirDn2dKernel(const Node& node) : filter_(filter(node.attributes)) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    return {filter(attributes).output(Map(inputs[0]), 2).shape()};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    const Map map(x.shape), y = filter_.output(map, 2);
    UpFirDn kernel{};
    kernel.x = static_cast<const float*>(x.data);
    kernel.y = static_cast<float*>(output(context, 0, y.shape()));
    filter_.fill(kernel, map, y);
    kernel.channels = count(map.channels);
    run<kCuda>(context, kernel, elements(y.shape()));
  }

 private:
  static Filter filter(const Attributes& attributes) {
    if (attributes.integer("up", 1) != 2) refuse("up must be 2");
    return Filter(attributes);
  }

  Filter filter_;
};

}  // namespace edgegrain
