// The ops of the domain com.edgegrain, as ONNX Runtime wants them registered. docs/cuda_ops.md describes the ops; the
// headers in ops/ check attributes and shapes and run the kernels.
#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "ops/bias_act_ops.h"
#include "ops/conv_ops.h"
#include "ops/modulation_op.h"
#include "ops/quantization_ops.h"
#include "ops/resampling_ops.h"

namespace edgegrain {
namespace {

constexpr char kDomain[] = "com.edgegrain";

// The types of an op's inputs and outputs: 't' is the type T of the kernel, 'f' float32, 'b' uint8, 'a' any type that
// output_shapes or the kernel decides on, '*' any number of further inputs of any type. Of the inputs as many as
// `required` must be given, of the outputs the first one.
struct Signature {
  const char* name;
  const char* inputs;
  std::size_t required;
  const char* outputs;
};

constexpr Signature kFilteredBiasAct{"FilteredBiasAct", "tftff", 5, "t"};  // x, demodulation, noise, bias, style
constexpr Signature kUpFirDn2d{"UpFirDn2d", "f", 1, "f"};                  // x
constexpr Signature kInverseHaar{"InverseHaar", "tf", 1, "t"};             // bands, style
// x, weight, demodulation, noise, bias, style, residual, outer, more
constexpr Signature kFusedConv{"FusedConv", "ttftffttt", 2, "tt"};
constexpr Signature kDenseBlock{"DenseBlock", "tt*", 1, "t"};                          // x, outer, weights and biases
constexpr Signature kUpsample{"Upsample", "t", 1, "t"};                                // x
constexpr Signature kModulationFactors{"ModulationFactors", "fff", 1, "ff"};           // style, squares, norm
constexpr Signature kDequantizeLR{"DequantizeLR", "b", 1, "a"};                        // lr
constexpr Signature kQuantizePicture{"QuantizePicture", "t", 1, "b"};                  // x

template <class T>
ONNXTensorElementDataType type_of(char letter) {
  switch (letter) {
    case 't': return kType<T>;
    case 'f': return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case 'b': return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    default: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  }
}

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

// ------------------------------------------------------------------------------------------------ shape inference

// The shapes of a node's inputs; empty where an input is absent or of unknown rank. Sizes that are not known are -1.
class InferredShapes {
 public:
  explicit InferredShapes(OrtShapeInferContext* context) : context_(context) {
    std::size_t count = 0;
    Ort::ThrowOnError(Ort::GetApi().ShapeInferContext_GetInputCount(context, &count));
    for (std::size_t index = 0; index < count; ++index) read(index);
  }

  // True if all sizes are known, but for the first one of every input, which may be the batch.
  bool known() const {
    for (const Shape& shape : shapes_) {
      if (std::any_of(shape.begin() + !shape.empty(), shape.end(), [](std::int64_t side) { return side < 0; })) {
        return false;
      }
    }
    return !shapes_.empty() && !shapes_[0].empty();
  }

  const std::vector<Shape>& shapes() const { return shapes_; }

  ONNXTensorElementDataType type() const { return type_; }  // of the first input

  // Sizes of -1 are those of the first input at the same place.
  void set_output(std::size_t index, const Shape& shape, ONNXTensorElementDataType type) const {
    const OrtApi& api = Ort::GetApi();
    OrtTensorTypeAndShapeInfo* made = nullptr;
    Ort::ThrowOnError(api.CreateTensorTypeAndShapeInfo(&made));
    const Ort::TensorTypeAndShapeInfo info(made);  // releases it
    std::vector<std::string> names(shape.size());
    std::vector<const char*> symbols;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] < 0) names[i] = i < names_.size() && !names_[i].empty() ? names_[i] : fresh_name();
      symbols.push_back(names[i].c_str());
    }
    Ort::ThrowOnError(api.SetTensorElementType(made, type));
    Ort::ThrowOnError(api.SetDimensions(made, shape.data(), shape.size()));
    Ort::ThrowOnError(api.SetSymbolicDimensions(made, symbols.data(), symbols.size()));
    Ort::ThrowOnError(api.ShapeInferContext_SetOutputTypeShape(context_, index, made));
  }

 private:
  // A size that nothing else has: equal names would be equal sizes.
  static std::string fresh_name() {
    static std::atomic<std::uint64_t> count{0};
    return "com.edgegrain." + std::to_string(count++);
  }

  void read(std::size_t index) {
    shapes_.emplace_back();
    OrtTensorTypeAndShapeInfo* found = nullptr;
    if (OrtStatus* status = Ort::GetApi().ShapeInferContext_GetInputTypeShape(context_, index, &found)) {
      Ort::GetApi().ReleaseStatus(status);  // the input is absent
      return;
    }
    if (!found) return;  // it stays ONNX Runtime's
    std::size_t rank = 0;
    Ort::ThrowOnError(Ort::GetApi().GetDimensionsCount(found, &rank));
    Shape& shape = shapes_.back();
    shape.resize(rank);
    Ort::ThrowOnError(Ort::GetApi().GetDimensions(found, shape.data(), rank));
    if (index == 0) Ort::ThrowOnError(Ort::GetApi().GetTensorElementType(found, &type_));
    if (index == 0 && rank) {
      std::vector<const char*> symbols(rank);
      Ort::ThrowOnError(Ort::GetApi().GetSymbolicDimensions(found, symbols.data(), rank));
      for (const char* symbol : symbols) names_.emplace_back(symbol ? symbol : "");
    }
  }

  OrtShapeInferContext* context_;
  std::vector<Shape> shapes_;
  ONNXTensorElementDataType type_ = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<std::string> names_;  // of the first input's sizes that are not known
};

// ------------------------------------------------------------------------------------------------ registration

template <class Kernel>
struct Instance {
  explicit Instance(const OrtKernelInfo* info) : kernel(Node(info)) {}

  OrtStatusPtr ComputeV2(OrtKernelContext* context) const {
    return as_status([&] { kernel.compute(Ort::KernelContext(context)); });
  }

  Kernel kernel;
};

template <template <class, bool> class Kernel, const Signature& kSignature, class T, bool kCuda>
struct Op : Ort::CustomOpBase<Op<Kernel, kSignature, T, kCuda>, Instance<Kernel<T, kCuda>>, true> {
  using Made = Kernel<T, kCuda>;

  Op() {
    OrtCustomOp::InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) -> OrtStatusPtr {
      return as_status([&] { infer(context); });
    };
  }

  static void infer(OrtShapeInferContext* context) {
    const InferredShapes inputs(context);
    const Attributes attributes(context);
    if (!inputs.known()) {
      if constexpr (std::is_same_v<Made, DequantizeLRKernel<T, kCuda>>) {  // nothing else says of which type it is
        const Shape& lr = inputs.shapes()[0];
        inputs.set_output(0, lr.empty() ? Shape{-1, -1, -1, 3} : lr, Made::type(attributes));
      }
      return;
    }
    const std::vector<Shape> outputs = Made::output_shapes(attributes, inputs.shapes());
    // The context does not know how many outputs the node has, and ONNX Runtime writes the shape of an absent one behind
    // the others; so only those that every node has are inferred.
    constexpr std::size_t kRequired = std::string_view(kSignature.outputs) == "tt" ? 1 : 2;
    for (std::size_t index = 0; index < std::min(outputs.size(), kRequired); ++index) {
      // ONNX Runtime asks the op of one T for all: T is the type of x.
      const bool is_t = kSignature.outputs[index] == 't';
      ONNXTensorElementDataType type = is_t ? inputs.type() : type_of<T>(kSignature.outputs[index]);
      if constexpr (std::is_same_v<Made, DequantizeLRKernel<T, kCuda>>) type = Made::type(attributes);
      inputs.set_output(index, outputs[index], type);
    }
  }

  const char* GetName() const { return kSignature.name; }
  const char* GetExecutionProviderType() const {
    return kCuda ? "CUDAExecutionProvider" : "CPUExecutionProvider";
  }

  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
    return as_status([&] { *kernel = new Instance<Made>(info); });
  }

  std::size_t GetInputTypeCount() const { return std::char_traits<char>::length(kSignature.inputs); }
  ONNXTensorElementDataType GetInputType(std::size_t index) const { return type_of<T>(kSignature.inputs[index]); }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(std::size_t index) const {
    if (kSignature.inputs[index] == '*') return INPUT_OUTPUT_VARIADIC;
    return index < kSignature.required ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  }
  bool GetVariadicInputHomogeneity() const { return false; }

  std::size_t GetOutputTypeCount() const { return std::char_traits<char>::length(kSignature.outputs); }
  ONNXTensorElementDataType GetOutputType(std::size_t index) const { return type_of<T>(kSignature.outputs[index]); }
  OrtCustomOpInputOutputCharacteristic GetOutputCharacteristic(std::size_t index) const {
    return index ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
};

template <template <class, bool> class Kernel, const Signature& kSignature, class T>
void add_type(Ort::CustomOpDomain& domain) {
  static Op<Kernel, kSignature, T, false> cpu;
  domain.Add(&cpu);
#ifdef EDGEGRAIN_CUDA
  static Op<Kernel, kSignature, T, true> cuda;
  domain.Add(&cuda);
#endif
}

template <template <class, bool> class Kernel, const Signature& kSignature>
void add(Ort::CustomOpDomain& domain) {
  add_type<Kernel, kSignature, float>(domain);
  if constexpr (std::string_view(kSignature.inputs).find('t') != std::string_view::npos) {
    add_type<Kernel, kSignature, Half>(domain);
  }
}

}  // namespace
}  // namespace edgegrain

#if defined(_WIN32)
#define EDGEGRAIN_EXPORT __declspec(dllexport)
#else
#define EDGEGRAIN_EXPORT __attribute__((visibility("default")))
#endif

// ONNX Runtime calls this when the library is registered with a session's options.
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
      using namespace edgegrain;
      auto made = std::make_unique<Ort::CustomOpDomain>(kDomain);
      add<FilteredBiasActKernel, kFilteredBiasAct>(*made);
      add<UpFirDn2dKernel, kUpFirDn2d>(*made);
      add<InverseHaarKernel, kInverseHaar>(*made);
      add<FusedConvKernel, kFusedConv>(*made);
      add<DenseBlockKernel, kDenseBlock>(*made);
      add<UpsampleKernel, kUpsample>(*made);
      add<ModulationFactorsKernel, kModulationFactors>(*made);
      add<DequantizeLRKernel, kDequantizeLR>(*made);
      add<QuantizePictureKernel, kQuantizePicture>(*made);
      return made.release();
    }();
    Ort::UnownedSessionOptions(options).Add(domain);
  });
}

// The version of CUDA that the kernels were built with, as 13000 for 13.0; 0 without kernels.
extern "C" EDGEGRAIN_EXPORT int edgegrain_cuda_version() {
#ifdef EDGEGRAIN_CUDA
  return EDGEGRAIN_CUDA;
#else
  return 0;
#endif
}
