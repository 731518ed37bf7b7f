// InverseHaar and Upsample.
#pragma once

#include "../haar.h"
#include "../upsample.h"
#include "bias_act_ops.h"

namespace edgegrain {

template <class T, bool kCuda>
class InverseHaarKernel {
 public:
  explicit InverseHaarKernel(const Node& node) : scale_(node.attributes.number("scale", 1.0f)) {
    require_channels_last(node.attributes);
  }

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    require_channels_last(attributes);
    return {output_shape(Map(inputs[0]))};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    const Map map(x.shape);
    const Shape y = output_shape(map);
    const auto* factors = optional<float>(context, 1, "style", {map.batch, map.channels});
    T* const to = static_cast<T*>(output(context, 0, y));
    if (empty(x.shape)) return;
    const bool aligned = is_wide(x.data) && is_wide(to) && is_wide(factors);
    with_channels<T, kCuda>(map.channels / 4, aligned, [&](auto n) {
      const InverseHaar<T, n()> kernel{static_cast<const T*>(x.data), factors, to, scale_,
                                       unsigned(count(map.channels / 4 / n())), unsigned(count(map.height)),
                                       unsigned(count(map.width))};
      run<kCuda>(context, kernel, map.batch * map.height * map.width * kernel.groups);
    });
  }

 private:
  static Shape output_shape(const Map& bands) {
    if (bands.channels % 4) refuse("bands must be [B, H, W, 4 C], got " + text(bands.shape()));
    return {bands.batch, 2 * bands.height, 2 * bands.width, bands.channels / 4};
  }

  float scale_;
};

template <class T, bool kCuda>
class UpsampleKernel {
 public:
  explicit UpsampleKernel(const Node& node) : bilinear_(is_bilinear(node.attributes)) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    is_bilinear(attributes);
    return {output_shape(Map(inputs[0]))};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    const Map map(x.shape);
    T* const to = static_cast<T*>(output(context, 0, output_shape(map)));
    if (empty(x.shape)) return;
    with_channels<T, kCuda>(map.channels, is_wide(x.data) && is_wide(to), [&](auto n) {
      if (bilinear_) {
        run_as<true, n()>(context, x, map, to);
      } else {
        run_as<false, n()>(context, x, map, to);
      }
    });
  }

 private:
  static Shape output_shape(const Map& x) { return {x.batch, 2 * x.height, 2 * x.width, x.channels}; }

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
