// DequantizeLR and QuantizePicture.
#pragma once

#include "../quantization.h"
#include "node.h"

namespace edgegrain {

inline void check_picture(const char* name, const Shape& shape) {
  if (shape.size() != 4 || shape[3] != 3) refuse(std::string(name) + " must be [B, H, W, 3], got " + text(shape));
}

// The type of its output is an attribute, so this kernel is one for both.
template <class, bool kCuda>
class DequantizeLRKernel {
 public:
  explicit DequantizeLRKernel(const Node& node) : to_(type(node.attributes)) {}

  static std::vector<Shape> output_shapes(const Attributes& attributes, const std::vector<Shape>& inputs) {
    type(attributes);
    check_picture("lr", inputs[0]);
    return {inputs[0]};
  }

  static ONNXTensorElementDataType type(const Attributes& attributes) {
    const std::int64_t to = attributes.integer("to", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    if (to != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && to != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16) {
      refuse("to must be 1 (float32) or 10 (float16), got " + std::to_string(to));
    }
    return static_cast<ONNXTensorElementDataType>(to);
  }

  void compute(const Ort::KernelContext& context) const {
    if (to_ == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
      compute_as<float>(context);
    } else {
      compute_as<Half>(context);
    }
  }

 private:
  template <class T>
  void compute_as(const Ort::KernelContext& context) const {
    const Input lr = input(context, 0);
    check_picture("lr", lr.shape);
    T* const to = static_cast<T*>(output(context, 0, lr.shape));
    if (elements(lr.shape) % kWide<T> == 0 && is_wide(lr.data) && is_wide(to)) {
      run_as<T, kWide<T>>(context, lr, to);
    } else {
      run_as<T, 1>(context, lr, to);
    }
  }

  template <class T, int N>
  void run_as(const Ort::KernelContext& context, const Input& lr, T* to) const {
    run<kCuda>(context, Dequantize<T, N>{static_cast<const std::uint8_t*>(lr.data), to}, elements(lr.shape) / N);
  }

  ONNXTensorElementDataType to_;
};

template <class T, bool kCuda>
class QuantizePictureKernel {
 public:
  explicit QuantizePictureKernel(const Node&) {}

  static std::vector<Shape> output_shapes(const Attributes&, const std::vector<Shape>& inputs) {
    check_picture("x", inputs[0]);
    return {inputs[0]};
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = input(context, 0);
    check_picture("x", x.shape);
    auto* const to = static_cast<std::uint8_t*>(output(context, 0, x.shape));
    if (elements(x.shape) % kWide<T> == 0 && is_wide(x.data) && is_wide(to)) {
      run_as<kWide<T>>(context, x, to);
    } else {
      run_as<1>(context, x, to);
    }
  }

 private:
  template <int N>
  void run_as(const Ort::KernelContext& context, const Input& x, std::uint8_t* to) const {
    run<kCuda>(context, Quantize<T, N>{static_cast<const T*>(x.data), to}, elements(x.shape) / N);
  }
};

}  // namespace edgegrain
