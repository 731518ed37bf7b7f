// FusedConv and DenseBlock.
#pragma once

#include "../conv.h"
#include "../conv_cpu.h"
#include "bias_act_ops.h"

namespace edgegrain {

// The attributes of FusedConv.
struct ConvAttributes {
  std::array<std::int64_t, 4> pads;  // above, left, below, right
  std::int64_t stride, shuffle;
  bool depthwise, shift, crop, residual_first;
  Activation activation;
  float scale, outer_scale;

  explicit ConvAttributes(const Attributes& attributes)
      : pads(attributes.integers<4>("pads", {})), stride(attributes.integer("stride", 1)),
        shuffle(attributes.integer("shuffle", 1)), depthwise(attributes.flag("depthwise")),
        shift(attributes.flag("shift")), crop(attributes.flag("crop")),
        residual_first(attributes.flag("residual_first")), activation(attributes, 1.0f),
        scale(attributes.number("scale", 1.0f)), outer_scale(attributes.number("outer_scale", 1.0f)) {
    for (const std::int64_t side : pads) {
      if (side < 0 || side > 64) refuse("pads must lie in 0...64");
    }
    if (stride < 1 || stride > 2) refuse("stride must be 1 or 2, got " + std::to_string(stride));
    if (shuffle < 1 || shuffle > 2) refuse("shuffle must be 1 or 2, got " + std::to_string(shuffle));
    if (shuffle == 1 && (shift || crop)) refuse("shift and crop need shuffle 2");
    if (shuffle == 2 && depthwise) refuse("a depthwise convolution takes no shuffle");
  }

  // The sizes of a convolution of maps `x` with filters `weight`; a batch of -1 is one that is not known.
  template <class T>
  Conv<T> sizes(const Shape& x, const Shape& weight) const {
    if (x.size() != 4) refuse("x must be [B, H, W, C], got " + text(x));
    Conv<T> conv = filters<T>(weight);
    const std::int64_t channels = depthwise ? weight[0] : weight[3];
    if (x[3] != channels) {
      refuse("x must have the " + std::to_string(channels) + " channels of the weight " + text(weight) + ", got " +
             text(x));
    }
    const std::int64_t rows = x[1] + pads[0] + pads[2] - weight[1], columns = x[2] + pads[1] + pads[3] - weight[2];
    if (rows < shift || columns < shift) {
      refuse("x " + text(x) + " is smaller than the windows of the weight " + text(weight));
    }
    conv.batch = static_cast<std::int32_t>(x[0]);
    conv.height = count(x[1]), conv.width = count(x[2]);
    conv.rows = count(rows / stride + 1 - shift), conv.columns = count(columns / stride + 1 - shift);
    conv.out_height = count(shuffle * conv.rows - crop), conv.out_width = count(shuffle * conv.columns - crop);
    conv.pad_top = static_cast<std::int32_t>(pads[0]), conv.pad_left = static_cast<std::int32_t>(pads[1]);
    conv.stride = static_cast<std::int32_t>(stride), conv.shift = shift;
    conv.slope = activation.slope, conv.gain = activation.gain, conv.clamp = activation.clamp;
    conv.scale = scale, conv.outer_scale = outer_scale;
    conv.x_stride = conv.split = conv.channels;
    conv.y_stride = conv.residual_stride = conv.outer_stride = conv.out_channels;
    return conv;
  }

  // Those of the filters.
  template <class T>
  Conv<T> filters(const Shape& weight) const {
    if (weight.size() != 4 || empty(weight)) {
      const char* const wanted = depthwise ? "[C, kh, kw, 1]" : "[O, kh, kw, C]";
      refuse(std::string("weight must be ") + wanted + ", got " + text(weight));
    }
    if (weight[0] % (shuffle * shuffle)) refuse("with shuffle 2, weight must be [4 O, kh, kw, C], got " + text(weight));
    if (depthwise && weight[3] != 1) refuse("weight must be [C, kh, kw, 1], got " + text(weight));
    if (weight[1] * weight[2] > kMaxTaps) {
      refuse("windows must have at most " + std::to_string(kMaxTaps) + " pixels, got weight " + text(weight));
    }
    Conv<T> conv{};
    conv.out_channels = count(weight[0] / (shuffle * shuffle));
    conv.channels = count(depthwise ? weight[0] : weight[3]);
    conv.kernel_height = count(weight[1]), conv.kernel_width = count(weight[2]);
    conv.shuffle = static_cast<std::int32_t>(shuffle);
    conv.depthwise = depthwise;
    return conv;
  }

  template <class T>
  static Shape output(const Conv<T>& conv) {
    return {conv.batch, conv.out_height, conv.out_width, conv.out_channels};
  }
};

template <class T>
T* as(const Input& input) {
  return static_cast<T*>(const_cast<void*>(input.data));
}

// Runs convolutions one after the other.
template <bool kCuda, class T>
void convolve(const Ort::KernelContext& context, const Memory& memory, const std::vector<Conv<T>>& convolutions) {
  if constexpr (kCuda) {
#ifdef EDGEGRAIN_CUDA
    std::size_t bytes = 0;
    for (const Conv<T>& conv : convolutions) bytes = std::max(bytes, convolution_workspace(conv));
    const Scratch workspace(context, memory, bytes);
    for (const Conv<T>& conv : convolutions) {
      check_launched(launch_convolution(conv, workspace.as<void>(), context.GetGPUComputeStream()));
    }
#endif
  } else {
    for (const Conv<T>& conv : convolutions) run<false>(context, ConvOnCpu<T>{conv}, ConvOnCpu<T>{conv}.items());
  }
}

// ------------------------------------------------------------------------------------------------ FusedConv

template <class T, bool kCuda>
class FusedConvKernel {
 public:
  explicit FusedConvKernel(const Node& node) : attributes_(node.attributes), memory_(node) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    if (inputs.size() < 2 || inputs[1].empty()) return {};
    const Shape weight = filters_of(inputs[1]);
    if (weight[0] < 0) return {};
    const Shape x = inputs.size() > kMore && !inputs[kMore].empty() ? joined(inputs[0], inputs[kMore]) : inputs[0];
    const Shape y = ConvAttributes::output(ConvAttributes(attributes).sizes<T>(x, weight));
    return {y, y};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0), weight = input(context, 1);
    const Input more = context.GetInputCount() > kMore ? input(context, kMore) : Input{};
    const Shape filters = filters_of(weight.shape);
    Conv<T> conv = attributes_.sizes<T>(more ? joined(x.shape, more.shape) : x.shape, filters);
    if (attributes_.depthwise && (more || weight.shape.size() == 5)) {
      refuse("a depthwise convolution takes one map and the same filters for all pictures");
    }
    if (more) {
      conv.more = as<const T>(more);
      conv.x_stride = conv.split = count(x.shape[3]), conv.more_stride = more.shape[3];
    }
    if (weight.shape.size() == 5) {
      if (weight.shape[0] != x.shape[0]) {
        refuse("weight " + text(weight.shape) + " must have filters for " + std::to_string(x.shape[0]) + " pictures");
      }
      conv.weight_stride = elements(filters);
    }
    const Shape y = ConvAttributes::output(conv), per_channel = {conv.batch, conv.out_channels};
    conv.x = as<const T>(x), conv.weight = as<const T>(weight);
    conv.demodulation = optional<float>(context, 2, "demodulation", per_channel);
    conv.noise = optional<T>(context, 3, "noise", {1, y[1], y[2], 1});
    conv.bias = optional<float>(context, 4, "bias", {conv.out_channels});
    conv.style = optional<float>(context, 5, "style", per_channel);
    conv.residual = optional<T>(context, 6, "residual", y);
    conv.outer = optional<T>(context, 7, "outer", y);
    conv.residual_first = attributes_.residual_first;
    if (conv.residual_first && !conv.residual) refuse("residual_first needs a residual");
    T* const first = static_cast<T*>(output(context, 0, y));
    if (context.GetOutputCount() > 1) {
      if (!conv.style) refuse("a second output needs a style");
      conv.y = first, conv.modulated = static_cast<T*>(output(context, 1, y));
    } else {
      (conv.style ? conv.modulated : conv.y) = first;
    }
    if (empty(y)) return;
    convolve<kCuda, T>(context, memory_, {conv});
  }

 private:
  static constexpr std::size_t kMore = 8;

  // A weight of rank 5 has filters for every picture.
  static Shape filters_of(const Shape& weight) {
    return weight.size() == 5 ? Shape(weight.begin() + 1, weight.end()) : weight;
  }

  static Shape joined(const Shape& x, const Shape& more) {
    if (x.size() != 4 || more.size() != 4 || Shape(x.begin(), x.end() - 1) != Shape(more.begin(), more.end() - 1)) {
      refuse("more must be a map of the size of x, got " + text(more) + " for " + text(x));
    }
    return {x[0], x[1], x[2], x[3] + more[3]};
  }

  ConvAttributes attributes_;
  Memory memory_;
};

// ------------------------------------------------------------------------------------------------ DenseBlock

// The convolutions of a residual dense block, on slices of one map: x, then the results of all but the last.
template <class T, bool kCuda>
class DenseBlockKernel {
 public:
  explicit DenseBlockKernel(const Node& node)
      : attributes_(convolution(node.attributes, node.attributes.number("slope", 0.2f))), memory_(node) {}

  static std::vector<Shape> output_shapes(const Attributes&, const std::vector<Shape>& inputs) { return {inputs[0]}; }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    if (x.shape.size() != 4) refuse("x must be [B, H, W, C], got " + text(x.shape));
    const T* const outer = optional<T>(context, 1, "outer", x.shape);
    const std::vector<Layer> layers = read_layers(context, x.shape[3]);
    T* const y = static_cast<T*>(output(context, 0, x.shape));
    if (empty(x.shape)) return;
    const std::int64_t channels = x.shape[3], stride = layers.back().first - channels;
    const Scratch grown(context, memory_, elements(x.shape) / channels * stride * sizeof(T));
    std::vector<Conv<T>> convolutions;
    for (const Layer& layer : layers) {
      Conv<T> conv =
          attributes_.sizes<T>({x.shape[0], x.shape[1], x.shape[2], layer.first}, layer.weight.shape);
      conv.x = as<const T>(x), conv.x_stride = conv.split = count(channels);
      if (layer.first > channels) conv.more = grown.as<const T>(), conv.more_stride = stride;
      conv.weight = as<const T>(layer.weight), conv.bias = layer.bias;
      if (&layer == &layers.back()) {
        conv.slope = 1.0f;
        conv.y = y, conv.residual = as<const T>(x), conv.outer = outer;
      } else {
        conv.scale = 1.0f;
        conv.y = grown.as<T>() + layer.first - channels, conv.y_stride = stride;
      }
      convolutions.push_back(conv);
    }
    convolve<kCuda, T>(context, memory_, convolutions);
  }

 private:
  struct Layer {
    Input weight;
    const float* bias;
    std::int64_t first;  // the channels that it sees: x's and the results before its own
  };

  static ConvAttributes convolution(const Attributes& attributes, float slope) {
    ConvAttributes convolution(attributes);
    convolution.pads = {1, 1, 1, 1};
    convolution.activation = Activation(attributes, slope);
    convolution.scale = attributes.number("scale", 0.2f);
    convolution.outer_scale = attributes.number("outer_scale", 0.2f);
    return convolution;
  }

  static std::vector<Layer> read_layers(const Ort::KernelContext& context, std::int64_t channels) {
    const std::size_t inputs = context.GetInputCount();
    if (inputs < 4 || inputs % 2) refuse("a DenseBlock takes x, outer, and as many weights as biases");
    std::vector<Layer> layers;
    std::int64_t seen = channels;
    for (std::size_t k = 0, count = (inputs - 2) / 2; k < count; ++k) {
      const std::string number = std::to_string(k + 1);
      const Input weight = input(context, 2 + k), bias = input(context, 2 + count + k);
      if (weight.shape.size() != 4) refuse("weight " + number + " must be [O, 3, 3, C], got " + text(weight.shape));
      const std::int64_t grown = k + 1 < count ? weight.shape[0] : channels;
      if (weight.shape != Shape{grown, 3, 3, seen} || weight.type != kType<T>) {
        refuse("weight " + number + " must be " + text({grown, 3, 3, seen}) + " in the type of x, got " +
               text(weight.shape));
      }
      if (bias.shape != Shape{grown} || bias.type != kType<float>) {
        refuse("bias " + number + " must be " + text({grown}) + " in float32, got " + text(bias.shape));
      }
      layers.push_back({weight, as<const float>(bias), seen});
      seen += grown;
    }
    return layers;
  }

  ConvAttributes attributes_;
  Memory memory_;
};

}  // namespace edgegrain
