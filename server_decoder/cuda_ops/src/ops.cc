// The ops of the domain com.edgegrain, for ONNX Runtime: attributes and shapes are checked here, kernels are run here.
// docs/cuda_ops.md describes the ops.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>

#include "bias_act.h"
#include "fir.h"
#include "haar.h"
#ifdef EDGEGRAIN_CUDA
#include "launch.h"
#endif

namespace edgegrain {
namespace {

constexpr char kDomain[] = "com.edgegrain";

template <class T>
constexpr ONNXTensorElementDataType kType =
    std::is_same_v<T, Half> ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;

// Neighbouring pixels of an item on the CPU, where there are as many: enough to make up for finding out which they are.
constexpr int kHostRun = 64;

using Shape = std::vector<std::int64_t>;

std::string text(const Shape& shape) {
  std::ostringstream stream;
  stream << '[';
  for (std::size_t i = 0; i < shape.size(); ++i) stream << (i ? ", " : "") << shape[i];
  stream << ']';
  return stream.str();
}

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument("com.edgegrain: " + what); }

// ------------------------------------------------------------------------------------------------ running kernels

// Items on ONNX Runtime's thread pool, in pieces that are worth a thread's while.
template <class Kernel>
void run_on_cpu(const Ort::KernelContext& context, const Kernel& kernel, std::uint32_t items) {
  constexpr std::uint32_t kPiece = 1024;
  struct Work {
    const Kernel* kernel;
    std::uint32_t items;
  } work{&kernel, items};
  const std::size_t pieces = items / kPiece + (items % kPiece != 0);
  const auto piece = [](void* data, std::size_t index) {
    const Work& work = *static_cast<const Work*>(data);
    const std::uint64_t first = static_cast<std::uint64_t>(index) * kPiece;
    const std::uint64_t last = std::min<std::uint64_t>(first + kPiece, work.items);
    for (std::uint64_t item = first; item < last; ++item) (*work.kernel)(static_cast<std::uint32_t>(item));
  };
  if (pieces == 1) {
    piece(&work, 0);
  } else if (pieces > 1) {
    context.ParallelFor(piece, pieces, 0, &work);
  }
}

template <bool kCuda, class Kernel>
void run(const Ort::KernelContext& context, const Kernel& kernel, std::int64_t items) {
  if (items > std::numeric_limits<std::uint32_t>::max()) {
    refuse("a tensor is too large: " + std::to_string(items) + " pieces of work, expected fewer than 2^32");
  }
  if constexpr (kCuda) {
#ifdef EDGEGRAIN_CUDA
    if (const char* error = launch(kernel, static_cast<std::uint32_t>(items), context.GetGPUComputeStream())) {
      throw std::runtime_error(std::string("com.edgegrain: CUDA: ") + error);
    }
#endif
  } else {
    run_on_cpu(context, kernel, static_cast<std::uint32_t>(items));
  }
}

std::uint32_t count(std::int64_t value) {  // of what is part of an item's number, which `run` bounds
  if (value < 0 || value > std::numeric_limits<std::int32_t>::max()) refuse("a dimension is too large");
  return static_cast<std::uint32_t>(value);
}

std::int64_t pieces(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

// ------------------------------------------------------------------------------------------------ inputs and outputs

struct Input {
  Shape shape;
  const void* data = nullptr;

  explicit operator bool() const { return data != nullptr; }
};

Input input(const Ort::KernelContext& context, std::size_t index) {
  if (index >= context.GetInputCount()) return {};
  const Ort::ConstValue value = context.GetInput(index);
  if (!value) return {};
  return {value.GetTensorTypeAndShapeInfo().GetShape(), value.GetTensorRawData()};
}

Input feature_map(const Ort::KernelContext& context) {
  const Input x = input(context, 0);
  if (x.shape.size() != 4) refuse("x must be [B, C, H, W], got " + text(x.shape));
  return x;
}

// An optional input of exactly one of two shapes; null where it is absent.
const void* optional(const Ort::KernelContext& context, std::size_t index, const char* name, const Shape& wanted,
                     const Shape& other) {
  const Input found = input(context, index);
  if (!found.shape.empty() && found.shape != wanted && found.shape != other) {
    refuse(std::string(name) + " must be " + text(wanted) + ", got " + text(found.shape));
  }
  if (found.data && found.shape.empty()) refuse(std::string(name) + " must be " + text(wanted) + ", got a scalar");
  return found.data;
}

void* output(const Ort::KernelContext& context, std::size_t index, const Shape& shape) {
  auto value = context.GetOutput(index, shape);
  return value ? value.GetTensorMutableRawData() : nullptr;
}

bool empty(const Shape& shape) { return std::count(shape.begin(), shape.end(), 0) > 0; }

// ------------------------------------------------------------------------------------------------ attributes

class Attributes {
 public:
  explicit Attributes(const OrtKernelInfo* info) : info_(info) {}

  float number(const char* name, float absent) const {
    float value;
    return present(Ort::GetApi().KernelInfoGetAttribute_float(info_, name, &value)) ? value : absent;
  }

  std::int64_t integer(const char* name, std::int64_t absent) const {
    std::int64_t value;
    return present(Ort::GetApi().KernelInfoGetAttribute_int64(info_, name, &value)) ? value : absent;
  }

  template <std::size_t N>
  std::array<float, N> numbers(const char* name, std::array<float, N> absent) const {
    return several<float, N>(name, absent, Ort::GetApi().KernelInfoGetAttributeArray_float);
  }

  template <std::size_t N>
  std::array<std::int64_t, N> integers(const char* name, std::array<std::int64_t, N> absent) const {
    return several<std::int64_t, N>(name, absent, Ort::GetApi().KernelInfoGetAttributeArray_int64);
  }

 private:
  static bool present(OrtStatus* status) {
    if (!status) return true;
    Ort::GetApi().ReleaseStatus(status);
    return false;
  }

  template <class T, std::size_t N, class Get>
  std::array<T, N> several(const char* name, std::array<T, N> absent, Get get) const {
    std::size_t size = 0;
    if (!present(get(info_, name, nullptr, &size))) return absent;
    std::array<T, N> values;
    if (size != N || !present(get(info_, name, values.data(), &size))) {
      refuse(std::string(name) + " must have " + std::to_string(N) + " values, got " + std::to_string(size));
    }
    return values;
  }

  const OrtKernelInfo* info_;
};

// slope, gain and clamp of a layer's activation.
struct Activation {
  float slope, gain, clamp;

  explicit Activation(const Attributes& attributes)
      : slope(attributes.number("slope", 0.2f)),
        gain(attributes.number("gain", 1.0f)),
        clamp(attributes.number("clamp", 0.0f)) {
    if (!(clamp >= 0.0f)) refuse("clamp must not be negative; 0 is for none");
  }
};

// Where StyleGAN2's filter begins, how far it steps, and what comes out.
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

  Shape output(const Shape& x) const {
    const std::int64_t height = x[2] * up + pad[2] + pad[3] - kTaps, width = x[3] * up + pad[0] + pad[1] - kTaps;
    if (height < 0 || width < 0) refuse("x " + text(x) + " is smaller than the filter");
    return {x[0], x[1], height / down + 1, width / down + 1};
  }
};

// The tail of a layer from inputs 1 to 4 and the node's one or two outputs, which have the shape `y`.
template <class T>
Tail<T> tail_of(const Ort::KernelContext& context, const Activation& activation, const Shape& y) {
  const Shape per_channel = {y[0], y[1]}, noise = {y[0], 1, y[2], y[3]}, shared = {1, 1, y[2], y[3]};
  Tail<T> tail{};
  tail.demodulation =
      static_cast<const float*>(optional(context, 1, "demodulation", per_channel, per_channel));
  tail.noise = static_cast<const T*>(optional(context, 2, "noise", noise, shared));
  tail.noise_stride = tail.noise && input(context, 2).shape[0] > 1 ? y[2] * y[3] : 0;
  tail.bias = static_cast<const float*>(optional(context, 3, "bias", {y[1]}, {y[1]}));
  tail.style = static_cast<const float*>(optional(context, 4, "style", per_channel, per_channel));
  tail.slope = activation.slope, tail.gain = activation.gain, tail.clamp = activation.clamp;
  T* const first = static_cast<T*>(output(context, 0, y));
  if (context.GetOutputCount() > 1) {
    if (!tail.style) refuse("a second output needs a style");
    tail.plain = first;
    tail.modulated = static_cast<T*>(output(context, 1, y));
  } else {
    (tail.style ? tail.modulated : tail.plain) = first;
  }
  return tail;
}

template <class T>
bool is_wide(const Tail<T>& tail) {
  return edgegrain::is_wide(tail.noise) && edgegrain::is_wide(tail.plain) && edgegrain::is_wide(tail.modulated);
}

// ------------------------------------------------------------------------------------------------ the ops

template <class T, bool kCuda>
class DemodBiasActKernel {
 public:
  explicit DemodBiasActKernel(const Attributes& attributes) : activation_(attributes) {}

  void compute(const Ort::KernelContext& context) const {
    const Input x = feature_map(context);
    const Tail<T> tail = tail_of<T>(context, activation_, x.shape);
    if (empty(x.shape)) return;
    const std::int64_t plane = x.shape[2] * x.shape[3];
    if constexpr (!kCuda) {
      if (plane % kHostRun == 0) return run_as<kHostRun>(context, x, tail);
    }
    if (plane % kWide<T> == 0 && edgegrain::is_wide(x.data) && is_wide(tail)) {
      run_as<kWide<T>>(context, x, tail);
    } else {
      run_as<1>(context, x, tail);
    }
  }

 private:
  template <int N>
  void run_as(const Ort::KernelContext& context, const Input& x, const Tail<T>& tail) const {
    using Kernel = DemodBiasAct<T, N>;
    const std::int64_t plane = x.shape[2] * x.shape[3];
    Kernel kernel{static_cast<const T*>(x.data), tail, count(x.shape[1]),
                  count(pieces(x.shape[1], Kernel::kChannels)), count(plane / N), plane};
    run<kCuda>(context, kernel, x.shape[0] * kernel.groups * kernel.strips);
  }

  Activation activation_;
};

template <class T, bool kCuda, bool kTail, int N>
void run_fir_as(const Ort::KernelContext& context, const Filter& filter, const Input& x, const Tail<T>& tail,
                const Shape& y) {
  using Kernel = Fir<T, kTail, N>;
  Kernel kernel{};
  kernel.x = static_cast<const T*>(x.data);
  kernel.tail = tail;
  std::copy_n(filter.horizontal, kTaps, kernel.horizontal);
  std::copy_n(filter.vertical, kTaps, kernel.vertical);
  kernel.height = count(x.shape[2]), kernel.width = count(x.shape[3]);
  kernel.out_height = count(y[2]), kernel.out_width = count(y[3]);
  kernel.pad_x = static_cast<std::int32_t>(filter.pad[0]), kernel.pad_y = static_cast<std::int32_t>(filter.pad[2]);
  kernel.channels = count(y[1]);
  kernel.strips = count(pieces(y[3], N)), kernel.bands = count(pieces(y[2], Kernel::kRows));
  kernel.size = x.shape[0] * x.shape[1] * x.shape[2] * x.shape[3];
  kernel.wide_in = edgegrain::is_wide(x.data);
  kernel.wide_out = y[3] % N == 0 && is_wide(tail);
  run<kCuda>(context, kernel, y[0] * y[1] * kernel.bands * kernel.strips);
}

template <class T, bool kCuda, bool kTail>
void run_fir(const Ort::KernelContext& context, const Filter& filter, const Input& x, const Tail<T>& tail,
             const Shape& y) {
  if constexpr (!kCuda) {
    if (y[3] % kHostRun == 0) return run_fir_as<T, kCuda, kTail, kHostRun>(context, filter, x, tail, y);
  }
  run_fir_as<T, kCuda, kTail, kWide<T>>(context, filter, x, tail, y);
}

template <class T, bool kCuda>
class FilteredBiasActKernel {
 public:
  explicit FilteredBiasActKernel(const Attributes& attributes) : activation_(attributes), filter_(attributes) {
    if (filter_.up != 1 || filter_.down != 1) refuse("FilteredBiasAct takes no up and no down");
  }

  void compute(const Ort::KernelContext& context) const {
    const Input x = feature_map(context);
    const Shape y = filter_.output(x.shape);
    const Tail<T> tail = tail_of<T>(context, activation_, y);
    if (empty(x.shape)) {
      if (!empty(y)) refuse("x must not be empty, got " + text(x.shape));
      return;
    }
    run_fir<T, kCuda, true>(context, filter_, x, tail, y);
  }

 private:
  Activation activation_;
  Filter filter_;
};

template <class T, bool kCuda>
class UpFirDn2dKernel {
 public:
  explicit UpFirDn2dKernel(const Attributes& attributes) : filter_(attributes) {}

  void compute(const Ort::KernelContext& context) const {
    const Input x = feature_map(context);
    const Shape y = filter_.output(x.shape);
    T* const to = static_cast<T*>(output(context, 0, y));
    if (empty(x.shape)) {
      if (!empty(y)) refuse("x must not be empty, got " + text(x.shape));
      return;
    }
    if (filter_.up == 1 && filter_.down == 1) {
      Tail<T> tail{};
      tail.plain = to;
      run_fir<T, kCuda, false>(context, filter_, x, tail, y);
    } else if (y[3] % kWide<T> == 0 && edgegrain::is_wide(to)) {
      run_as<kWide<T>>(context, x, to, y);
    } else {
      run_as<1>(context, x, to, y);
    }
  }

 private:
  template <int N>
  void run_as(const Ort::KernelContext& context, const Input& x, T* to, const Shape& y) const {
    UpFirDn<T, N> kernel{};
    kernel.x = static_cast<const T*>(x.data), kernel.y = to;
    std::copy_n(filter_.horizontal, kTaps, kernel.horizontal);
    std::copy_n(filter_.vertical, kTaps, kernel.vertical);
    kernel.height = count(x.shape[2]), kernel.width = count(x.shape[3]), kernel.out_height = count(y[2]);
    kernel.up = static_cast<std::int32_t>(filter_.up), kernel.down = static_cast<std::int32_t>(filter_.down);
    kernel.pad_x = static_cast<std::int32_t>(filter_.pad[0]);
    kernel.pad_y = static_cast<std::int32_t>(filter_.pad[2]);
    kernel.strips = count(y[3] / N);
    run<kCuda>(context, kernel, y[0] * y[1] * y[2] * kernel.strips);
  }

  Filter filter_;
};

template <class T, bool kCuda>
class InverseHaarKernel {
 public:
  explicit InverseHaarKernel(const Attributes& attributes) : scale_(attributes.number("scale", 1.0f)) {}

  void compute(const Ort::KernelContext& context) const {
    const Input x = feature_map(context);
    if (x.shape[1] % 4) refuse("bands must be [B, 4 C, H, W], got " + text(x.shape));
    const Shape style = {x.shape[0], x.shape[1]};
    const auto* factors = static_cast<const float*>(optional(context, 1, "style", style, style));
    T* const to =
        static_cast<T*>(output(context, 0, {x.shape[0], x.shape[1] / 4, 2 * x.shape[2], 2 * x.shape[3]}));
    if (empty(x.shape)) return;
    if constexpr (!kCuda) {
      if (x.shape[3] % kHostRun == 0) return run_as<kHostRun>(context, x, factors, to);
    }
    const bool wide = x.shape[3] % kWide<T> == 0 && edgegrain::is_wide(x.data) && edgegrain::is_wide(to);
    wide ? run_as<kWide<T>>(context, x, factors, to) : run_as<1>(context, x, factors, to);
  }

 private:
  template <int N>
  void run_as(const Ort::KernelContext& context, const Input& x, const float* style, T* to) const {
    const InverseHaar<T, N> kernel{static_cast<const T*>(x.data), style, to, scale_, count(x.shape[1] / 4),
                                   count(x.shape[2]), count(x.shape[3] / N)};
    run<kCuda>(context, kernel, x.shape[0] * kernel.channels * kernel.height * kernel.strips);
  }

  float scale_;
};

// ------------------------------------------------------------------------------------------------ registration

// What an op takes and gives: 't' is the type of x, 'f' float32; all but the first of each are optional.
struct Signature {
  const char* name;
  const char* inputs;
  std::size_t outputs;
};

constexpr Signature kDemodBiasAct{"DemodBiasAct", "tftff", 2};        // x, demodulation, noise, bias, style
constexpr Signature kFilteredBiasAct{"FilteredBiasAct", "tftff", 2};  // the same
constexpr Signature kUpFirDn2d{"UpFirDn2d", "t", 1};                  // x
constexpr Signature kInverseHaar{"InverseHaar", "tf", 1};             // bands, style

template <class Compute>
OrtStatusPtr as_status(Compute compute) noexcept {
  try {
    compute();
    return nullptr;
  } catch (const std::invalid_argument& error) {
    return Ort::GetApi().CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const Ort::Exception& error) {
    return Ort::GetApi().CreateStatus(error.GetOrtErrorCode(), error.what());
  } catch (const std::exception& error) {
    return Ort::GetApi().CreateStatus(ORT_RUNTIME_EXCEPTION, error.what());
  } catch (...) {
    return Ort::GetApi().CreateStatus(ORT_RUNTIME_EXCEPTION, "com.edgegrain: unknown exception");
  }
}

template <class Kernel>
struct Instance {
  explicit Instance(const OrtKernelInfo* info) : kernel(Attributes(info)) {}

  OrtStatusPtr ComputeV2(OrtKernelContext* context) const {
    return as_status([&] { kernel.compute(Ort::KernelContext(context)); });
  }

  Kernel kernel;
};

template <template <class, bool> class Kernel, const Signature& kSignature, class T, bool kCuda>
struct Op : Ort::CustomOpBase<Op<Kernel, kSignature, T, kCuda>, Instance<Kernel<T, kCuda>>, true> {
  const char* GetName() const { return kSignature.name; }
  const char* GetExecutionProviderType() const {
    return kCuda ? "CUDAExecutionProvider" : "CPUExecutionProvider";
  }

  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
    return as_status([&] { *kernel = new Instance<Kernel<T, kCuda>>(info); });
  }

  std::size_t GetInputTypeCount() const { return std::char_traits<char>::length(kSignature.inputs); }
  ONNXTensorElementDataType GetInputType(std::size_t index) const {
    return kSignature.inputs[index] == 't' ? kType<T> : kType<float>;
  }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(std::size_t index) const {
    return index ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }

  std::size_t GetOutputTypeCount() const { return kSignature.outputs; }
  ONNXTensorElementDataType GetOutputType(std::size_t) const { return kType<T>; }
  OrtCustomOpInputOutputCharacteristic GetOutputCharacteristic(std::size_t index) const {
    return index ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
};

template <template <class, bool> class Kernel, const Signature& kSignature, bool kCuda>
void add_for(Ort::CustomOpDomain& domain) {
  static Op<Kernel, kSignature, float, kCuda> single;
  static Op<Kernel, kSignature, Half, kCuda> half;
  domain.Add(&single);
  domain.Add(&half);
}

template <template <class, bool> class Kernel, const Signature& kSignature>
void add(Ort::CustomOpDomain& domain) {
  add_for<Kernel, kSignature, false>(domain);
#ifdef EDGEGRAIN_CUDA
  add_for<Kernel, kSignature, true>(domain);
#endif
}

}  // namespace
}  // namespace edgegrain

#if defined(_WIN32)
#define EDGEGRAIN_EXPORT __declspec(dllexport)
#else
#define EDGEGRAIN_EXPORT __attribute__((visibility("default")))
#endif

// What ONNX Runtime calls when the library is registered with a session's options.
extern "C" EDGEGRAIN_EXPORT OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                                      const OrtApiBase* base) {
  const OrtApi* const api = base->GetApi(ORT_API_VERSION);
  if (!api) {
    const std::string message = "the library of com.edgegrain was built with headers of API " +
                                std::to_string(ORT_API_VERSION) + ", which ONNX Runtime " + base->GetVersionString() +
                                " does not have; install a newer one or build with older headers";
    return base->GetApi(1)->CreateStatus(ORT_FAIL, message.c_str());
  }
  Ort::InitApi(api);
  return edgegrain::as_status([&] {
    static Ort::CustomOpDomain& domain = *[] {  // never destroyed: sessions refer to it until the process ends
      auto made = std::make_unique<Ort::CustomOpDomain>(edgegrain::kDomain);
      edgegrain::add<edgegrain::DemodBiasActKernel, edgegrain::kDemodBiasAct>(*made);
      edgegrain::add<edgegrain::FilteredBiasActKernel, edgegrain::kFilteredBiasAct>(*made);
      edgegrain::add<edgegrain::UpFirDn2dKernel, edgegrain::kUpFirDn2d>(*made);
      edgegrain::add<edgegrain::InverseHaarKernel, edgegrain::kInverseHaar>(*made);
      return made.release();
    }();
    Ort::UnownedSessionOptions(options).Add(domain);
  });
}

// Whether the library holds CUDA kernels.
extern "C" EDGEGRAIN_EXPORT int edgegrain_has_cuda() {
#ifdef EDGEGRAIN_CUDA
  return 1;
#else
  return 0;
#endif
}

// The version of CUDA that the kernels were built with, as 13000 for 13.0; 0 without kernels.
extern "C" EDGEGRAIN_EXPORT int edgegrain_cuda_version() {
#ifdef EDGEGRAIN_CUDA
  return EDGEGRAIN_CUDA;
#else
  return 0;
#endif
}
