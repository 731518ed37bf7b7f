// InverseHaar and Upsample.
#pragma once

#include "../haar.h"
#include "../haar_nhwc.h"
#include "../upsample.h"
#include "bias_act_ops.h"

namespace edgegrain {

template <class T, bool kCuda>
class InverseHaarKernel {
 public:
  explicit InverseHaarKernel(const Node& node)
      : scale_(node.attributes.number("scale", 1.0f)), channels_last_(node.attributes.flag("channels_last")) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    return {output_shape(Map(inputs[0], attributes.flag("channels_last")))};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    const Map map(x.shape, channels_last_);
    const Shape y = output_shape(map);
    const auto* factors = optional<float>(context, 1, "style", {map.batch, map.channels});
    T* const to = static_cast<T*>(output(context, 0, y));
    if (empty(x.shape)) return;
    const bool aligned = edgegrain::is_wide(x.data) && edgegrain::is_wide(to);
    if (channels_last_) {
      with_channels<T, kCuda>(map.channels / 4, aligned && edgegrain::is_wide(factors), [&](auto n) {
        const InverseHaarNhwc<T, n()> kernel{static_cast<const T*>(x.data), factors, to, scale_,
                                             unsigned(count(map.channels / 4 / n())), unsigned(count(map.height)),
                                             unsigned(count(map.width))};
        run<kCuda>(context, kernel, map.batch * map.height * map.width * kernel.groups);
      });
      return;
    }
    if constexpr (!kCuda) {
      if (map.width % kHostRun == 0) return run_as<kHostRun>(context, x, map, factors, to);
    }
    if (map.width % kWide<T> == 0 && aligned) {
      run_as<kWide<T>>(context, x, map, factors, to);
    } else {
      run_as<1>(context, x, map, factors, to);
    }
  }

 private:
  static Shape output_shape(const Map& bands) {
    if (bands.channels % 4) {
      refuse(std::string("bands must be ") + (bands.channels_last ? "[B, H, W, 4 C]" : "[B, 4 C, H, W]") + ", got " +
             text(bands.shape()));
    }
    return bands.with(bands.channels / 4, 2 * bands.height, 2 * bands.width);
  }

  template <int N>
  void run_as(const Ort::KernelContext& context, const Input& x, const Map& map, const float* style, T* to) const {
    const InverseHaar<T, N> kernel{static_cast<const T*>(x.data), style, to, scale_, unsigned(count(map.channels / 4)),
                                   unsigned(count(map.height)), unsigned(count(map.width / N))};
    run<kCuda>(context, kernel, map.batch * kernel.channels * kernel.height * kernel.strips);
  }

  float scale_;
  bool channels_last_;
};

template <class T, bool kCuda>
class UpsampleKernel {
 public:
  explicit UpsampleKernel(const Node& node) : bilinear_(is_bilinear(node.attributes)) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    is_bilinear(attributes);
    const Map x(inputs[0], true);
    return {x.with(x.channels, 2 * x.height, 2 * x.width)};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    const Map map(x.shape, true);
    T* const to = static_cast<T*>(output(context, 0, map.with(map.channels, 2 * map.height, 2 * map.width)));
    if (empty(x.shape)) return;
    with_channels<T, kCuda>(map.channels, edgegrain::is_wide(x.data) && edgegrain::is_wide(to), [&](auto n) {
      if (bilinear_) {
        run_as<true, n()>(context, x, map, to);
      } else {
        run_as<false, n()>(context, x, map, to);
      }
    });
  }

 private:
  static bool is_bilinear(const Attributes& attributes) {
    const std::string mode = attributes.word("mode");
    if (mode != "nearest" && mode != "bilinear") refuse("mode must be nearest or bilinear, got '" + mode + "'");
    return mode == "bilinear";
  }

  template <bool kBilinear, int N>
  void run_as(const Ort::KernelContext& context, const Input& x, const Map& map, T* to) const {
    const Upsample<T, kBilinear, N> kernel{static_cast<const T*>(x.data), to, count(map.height), count(map.width),
                                           unsigned(count(map.channels / N))};
    run<kCuda>(context, kernel, map.batch * map.height * map.width * kernel.groups);
  }

  bool bilinear_;
};

}  // namespace edgegrain
