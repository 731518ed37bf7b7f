// A node of the graph: its inputs and outputs, constants, memory for scratch, and the running of kernels on its device.
#pragma once

#include <algorithm>
#include <limits>
#include <string>

#include "attributes.h"
#include "../conv_cpu.h"
#ifdef EDGEGRAIN_CUDA
#include "../launch.h"
#endif

namespace edgegrain {

template <class T>
constexpr ONNXTensorElementDataType kType =
    std::is_same_v<T, Half> ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;

// ------------------------------------------------------------------------------------------------ inputs and outputs

struct Input {
  Shape shape;
  const void* data = nullptr;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;

  explicit operator bool() const { return data != nullptr; }
};

inline Input as_input(const Ort::ConstValue& value) {
  const auto info = value.GetTensorTypeAndShapeInfo();
  return {info.GetShape(), value.GetTensorRawData(), info.GetElementType()};
}

inline Input input(const Ort::KernelContext& context, std::size_t index) {
  if (index >= context.GetInputCount()) return {};
  const Ort::ConstValue value = context.GetInput(index);
  return value ? as_input(value) : Input{};
}

// An optional input of exactly this shape; null where it is absent.
template <class T>
const T* optional(const Ort::KernelContext& context, std::size_t index, const char* name, const Shape& wanted) {
  const Input found = input(context, index);
  if ((found.data || !found.shape.empty()) && found.shape != wanted) {
    refuse(std::string(name) + " must be " + text(wanted) + ", got " + text(found.shape));
  }
  return static_cast<const T*>(found.data);
}

inline void* output(const Ort::KernelContext& context, std::size_t index, const Shape& shape) {
  auto value = context.GetOutput(index, shape);
  return value ? value.GetTensorMutableRawData() : nullptr;
}

inline bool empty(const Shape& shape) { return std::count(shape.begin(), shape.end(), 0) > 0; }

inline std::int64_t elements(const Shape& shape) {
  std::int64_t product = 1;
  for (const std::int64_t side : shape) product *= side;
  return product;
}

inline std::int32_t count(std::int64_t value) {  // of what is part of an item's number, which `run` bounds
  if (value < 0 || value > std::numeric_limits<std::int32_t>::max()) refuse("a dimension is too large");
  return static_cast<std::int32_t>(value);
}

inline std::int64_t pieces(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

// ------------------------------------------------------------------------------------------------ making kernels

// The node that a kernel is made for.
class Node {
 public:
  explicit Node(const OrtKernelInfo* info) : attributes(info), info_(info) {}

  const OrtKernelInfo* info() const { return info_; }

  Attributes attributes;

 private:
  const OrtKernelInfo* info_;
};

// ONNX Runtime's memory for results of this node: an arena, where the session has one.
class Memory {
 public:
  explicit Memory(const Node& node) {
    Ort::ThrowOnError(Ort::GetApi().KernelInfoGetAllocator(node.info(), OrtMemTypeDefault, &allocator_));
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { Ort::GetApi().ReleaseAllocator(allocator_); }

  OrtAllocator* allocator() const { return allocator_; }

 private:
  OrtAllocator* allocator_ = nullptr;
};

// Memory for one run. On a GPU it is tied to the node's stream: what is launched there may still use it when the object
// is gone, and only work on the same stream gets it next. ONNX Runtime captures CUDA graphs after runs that made the
// arena large enough, so nothing is allocated on the device while it does.
class Scratch {
 public:
  Scratch(const Ort::KernelContext& context, const Memory& memory, std::size_t bytes) : memory_(memory) {
    if (!bytes) return;
    OrtAllocator* const allocator = memory.allocator();
    if (context.GetGPUComputeStream()) {
      Ort::ThrowOnError(Ort::GetApi().KernelContext_GetScratchBuffer(context.GetOrtKernelContext(),
                                                                     allocator->Info(allocator), bytes, &data_));
    } else {
      data_ = allocator->Alloc(allocator, bytes);
    }
    if (!data_) throw std::runtime_error("com.edgegrain: no memory for " + std::to_string(bytes) + " bytes of scratch");
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    if (data_) memory_.allocator()->Free(memory_.allocator(), data_);
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  const Memory& memory_;
  void* data_ = nullptr;
};

// ------------------------------------------------------------------------------------------------ running kernels

// Items on ONNX Runtime's thread pool, in pieces that are worth a thread's while.
template <class Kernel>
void run_on_cpu(const Ort::KernelContext& context, const Kernel& kernel, std::uint32_t items) {
  constexpr std::uint32_t kPiece = 1024;
  struct Work {
    const Kernel* kernel;
    std::uint32_t items;
  } work{&kernel, items};
  const auto piece = [](void* data, std::size_t index) {
    const Work& work = *static_cast<const Work*>(data);
    const std::uint64_t first = static_cast<std::uint64_t>(index) * kPiece;
    const std::uint64_t last = std::min<std::uint64_t>(first + kPiece, work.items);
    for (std::uint64_t item = first; item < last; ++item) (*work.kernel)(static_cast<std::uint32_t>(item));
  };
  if (items) context.ParallelFor(piece, items / kPiece + (items % kPiece != 0), 0, &work);
}

inline void check_launched(const char* error) {
  if (error) throw std::runtime_error(std::string("com.edgegrain: CUDA: ") + error);
}

template <bool kCuda, class Kernel>
void run(const Ort::KernelContext& context, const Kernel& kernel, std::int64_t items) {
  if (items > std::numeric_limits<std::uint32_t>::max()) {
    refuse("a tensor is too large: " + std::to_string(items) + " pieces of work, expected fewer than 2^32");
  }
  if constexpr (kCuda) {
#ifdef EDGEGRAIN_CUDA
    check_launched(launch(kernel, static_cast<std::uint32_t>(items), context.GetGPUComputeStream()));
#endif
  } else {
    run_on_cpu(context, kernel, static_cast<std::uint32_t>(items));
  }
}

}  // namespace edgegrain
