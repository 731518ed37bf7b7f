// FusedConv and DenseBlock.
#pragma once

#include <optional>

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

  // The part of them that packed filters depend on.
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

// Filters of a weight that is the same in every run, packed for the CPU, for maps of the size of the first input.
template <class T>
std::optional<PackedFilters> pack_constant(const Node& node, std::size_t index, const ConvAttributes& attributes) {
  const Input weight = node.constant(index);
  if (!weight || weight.type != kType<T> || weight.shape.size() != 4) return {};
  Conv<T> shape = attributes.filters<T>(weight.shape);
  Shape x = node.shape(0);
  if (x.size() == 4 && x[1] > 0 && x[2] > 0) {
    x[3] = shape.channels;  // of a dense block's convolution: more than those of its x
    shape = attributes.sizes<T>(x, weight.shape);
  }
  shape.weight = as<const T>(weight);
  return PackedFilters(shape);
}

// Filters for one run: transforming them for it would not pay.
template <class T>
PackedFilters pack(Conv<T> conv) {
  conv.rows = conv.columns = 0;
  return PackedFilters(conv);
}

// The maps that a convolution reads as float32, for the CPU: the maps themselves if they are, else one with all
// channels.
template <class T>
class AsFloat {
 public:
  AsFloat(const Ort::KernelContext& context, const Memory& memory, const Conv<T>& conv)
      : scratch_(context, memory, sizeof(T) == 4 ? 0 : pixels(conv) * conv.channels * sizeof(float)),
        picture_(std::int64_t{conv.height} * conv.width) {
    if constexpr (sizeof(T) == 4) {
      maps_ = {conv.x, conv.more, conv.x_stride, conv.more_stride, conv.split};
    } else {
      float* to = scratch_.template as<float>();
      maps_ = {to, nullptr, conv.channels, 0, conv.channels};
      for (std::int64_t pixel = 0; pixel < pixels(conv); ++pixel) {
        for (std::int32_t c = 0; c < conv.split; ++c) *to++ = to_float(conv.x[pixel * conv.x_stride + c]);
        for (std::int32_t c = conv.split; c < conv.channels; ++c) {
          *to++ = to_float(conv.more[pixel * conv.more_stride + c - conv.split]);
        }
      }
    }
  }

  // Those of picture b and the ones after it.
  FloatMaps of_picture(std::int32_t b) const {
    FloatMaps maps = maps_;
    maps.x += b * picture_ * maps.x_stride;
    if (maps.more) maps.more += b * picture_ * maps.more_stride;
    return maps;
  }

 private:
  static std::int64_t pixels(const Conv<T>& conv) { return std::int64_t{conv.batch} * conv.height * conv.width; }

  Scratch scratch_;
  std::int64_t picture_;  // its pixels
  FloatMaps maps_;
};

// ------------------------------------------------------------------------------------------------ FusedConv

template <class T, bool kCuda>
class FusedConvKernel {
 public:
  explicit FusedConvKernel(const Node& node) : attributes_(node.attributes), memory_(node) {
    if constexpr (!kCuda) packed_ = pack_constant<T>(node, 1, attributes_);
  }

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
    if constexpr (kCuda) {
#ifdef EDGEGRAIN_CUDA
      const Scratch workspace(context, memory_, convolution_workspace(conv));
      check_launched(launch_convolution(conv, workspace.as<void>(), context.GetGPUComputeStream()));
#endif
    } else {
      const AsFloat<T> maps(context, memory_, conv);
      if (conv.weight_stride) {
        for (std::int32_t b = 0; b < conv.batch; ++b) {
          const Conv<T> one = picture(conv, b);
          convolve(one, pack(one), maps.of_picture(b), Threads(context));
        }
      } else if (packed_) {
        convolve(conv, *packed_, maps.of_picture(0), Threads(context));
      } else {
        convolve(conv, pack(conv), maps.of_picture(0), Threads(context));
      }
    }
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

  // Picture b of the convolution of a batch.
  static Conv<T> picture(const Conv<T>& conv, std::int32_t b) {
    Conv<T> one = conv;
    const std::int64_t pixels = std::int64_t{b} * conv.out_height * conv.out_width;
    const std::int64_t row = std::int64_t{b} * conv.out_channels;
    one.batch = 1;
    one.weight += b * conv.weight_stride;
    if (conv.demodulation) one.demodulation += row;
    if (conv.style) one.style += row;
    if (conv.residual) one.residual += pixels * conv.residual_stride;
    if (conv.outer) one.outer += pixels * conv.outer_stride;
    if (conv.y) one.y += pixels * conv.y_stride;
    if (conv.modulated) one.modulated += pixels * conv.out_channels;
    return one;
  }

  ConvAttributes attributes_;
  Memory memory_;
  std::optional<PackedFilters> packed_;
};

// ------------------------------------------------------------------------------------------------ DenseBlock

// The convolutions of a residual dense block, on slices of one map: x, then the results of all but the last.
template <class T, bool kCuda>
class DenseBlockKernel {
 public:
  explicit DenseBlockKernel(const Node& node)
      : attributes_(convolution(node.attributes, node.attributes.number("slope", 0.2f))), memory_(node) {
    if constexpr (!kCuda) {
      const std::size_t convolutions = node.inputs() < 2 ? 0 : (node.inputs() - 2) / 2;
      for (std::size_t k = 0; k < convolutions; ++k) packed_.push_back(pack_constant<T>(node, 2 + k, attributes_));
    }
  }

  static std::vector<Shape> output_shapes(const Attributes&, const std::vector<Shape>& inputs) { return {inputs[0]}; }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    if (x.shape.size() != 4) refuse("x must be [B, H, W, C], got " + text(x.shape));
    const T* const outer = optional<T>(context, 1, "outer", x.shape);
    const std::vector<Layer> layers = read_layers(context, x.shape[3]);
    T* const y = static_cast<T*>(output(context, 0, x.shape));
    if (empty(x.shape)) return;
    if constexpr (kCuda) {
      run_on_cuda(context, x, outer, layers, y);
    } else {
      run_here(context, x, outer, layers, y);
    }
  }

 private:
  struct Layer {
    Input weight;
    const float* bias;
    std::int64_t first;  // of its results in the wide map: the channels that it sees
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

  // For the CPU: a convolution on slices of `wide`, which has `stride` channels: x, then what grows. Of the last one, y
  // and what is added are still to be set.
  template <class U>
  Conv<U> slice(const Input& x, const Layer& layer, U* wide, std::int64_t stride, bool last) const {
    Conv<U> conv = attributes_.sizes<U>({x.shape[0], x.shape[1], x.shape[2], layer.first}, layer.weight.shape);
    conv.x = wide, conv.x_stride = stride;
    conv.bias = layer.bias;
    if (last) {
      conv.slope = 1.0f;
    } else {
      conv.scale = 1.0f;
      conv.y = wide + layer.first, conv.y_stride = stride;
    }
    return conv;
  }

  void run_on_cuda(const Ort::KernelContext& context, const Input& x, const T* outer, const std::vector<Layer>& layers,
                   T* y) const {
#ifdef EDGEGRAIN_CUDA
    const std::int64_t channels = x.shape[3], stride = layers.back().first - channels;
    const Scratch grown(context, memory_, elements(x.shape) / channels * stride * sizeof(T));
    std::vector<Conv<T>> convolutions;
    std::size_t bytes = 0;
    for (const Layer& layer : layers) {
      Conv<T> conv = slice(x, layer, grown.as<T>() - channels, stride, &layer == &layers.back());
      conv.x = as<const T>(x), conv.x_stride = conv.split = count(channels);
      if (layer.first > channels) conv.more = grown.as<const T>(), conv.more_stride = stride;
      conv.weight = as<const T>(layer.weight);
      bytes = std::max(bytes, convolution_workspace(conv));
      convolutions.push_back(conv);
    }
    Conv<T>& last = convolutions.back();
    last.y = y, last.residual = as<const T>(x), last.outer = outer;
    const Scratch workspace(context, memory_, bytes);
    for (const Conv<T>& conv : convolutions) {
      check_launched(launch_convolution(conv, workspace.as<void>(), context.GetGPUComputeStream()));
    }
#endif
  }

  // On the CPU the wide map is float32 for both types.
  void run_here(const Ort::KernelContext& context, const Input& x, const T* outer, const std::vector<Layer>& layers,
                T* y) const {
    const std::int64_t pixels = elements(x.shape) / x.shape[3], channels = x.shape[3], stride = layers.back().first;
    const Scratch wide(context, memory_, pixels * stride * sizeof(float));
    for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
      const T* const from = as<const T>(x) + pixel * channels;
      float* const to = wide.as<float>() + pixel * stride;
      for (std::int64_t c = 0; c < channels; ++c) to[c] = to_float(from[c]);
    }
    const Threads threads(context);
    for (std::size_t k = 0; k < layers.size(); ++k) {
      std::optional<PackedFilters> made;
      if (!packed_[k]) {
        Conv<T> shape = attributes_.filters<T>(layers[k].weight.shape);
        shape.weight = as<const T>(layers[k].weight);
        made.emplace(shape);
      }
      const PackedFilters& filters = packed_[k] ? *packed_[k] : *made;
      if (k + 1 < layers.size()) {
        const Conv<float> conv = slice(x, layers[k], wide.as<float>(), stride, false);
        convolve(conv, filters, {conv.x, nullptr, stride, 0, conv.channels}, threads);
      } else {
        Conv<T> last = slice<T>(x, layers[k], nullptr, stride, true);
        last.y = y, last.residual = as<const T>(x), last.outer = outer;
        convolve(last, filters, {wide.as<float>(), nullptr, stride, 0, last.channels}, threads);
      }
    }
  }

  ConvAttributes attributes_;
  Memory memory_;
  std::vector<std::optional<PackedFilters>> packed_;
};

}  // namespace edgegrain
