// Attributes of a node, and the error for what does not fit.
#pragma once

#include <array>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#ifndef ORT_API_MANUAL_INIT
#define ORT_API_MANUAL_INIT
#endif
#include <onnxruntime_cxx_api.h>

namespace edgegrain {

using Shape = std::vector<std::int64_t>;

inline std::string text(const Shape& shape) {
  std::ostringstream stream;
  stream << '[';
  for (std::size_t i = 0; i < shape.size(); ++i) stream << (i ? ", " : "") << shape[i];
  stream << ']';
  return stream.str();
}

[[noreturn]] inline void refuse(const std::string& what) { throw std::invalid_argument("com.edgegrain: " + what); }

// Of a node whose kernel is being made, or whose output shapes are being inferred.
class Attributes {
 public:
  explicit Attributes(const OrtKernelInfo* info) : info_(info) {}
  explicit Attributes(const OrtShapeInferContext* context) : context_(context) {}

  float number(const char* name, float absent) const {
    float value;
    return read(name, ORT_OP_ATTR_FLOAT, &value, sizeof(value), Ort::GetApi().KernelInfoGetAttribute_float) ? value
                                                                                                             : absent;
  }

  std::int64_t integer(const char* name, std::int64_t absent) const {
    std::int64_t value;
    return read(name, ORT_OP_ATTR_INT, &value, sizeof(value), Ort::GetApi().KernelInfoGetAttribute_int64) ? value
                                                                                                           : absent;
  }

  // 0 or 1.
  bool flag(const char* name, bool absent = false) const {
    const std::int64_t value = integer(name, absent);
    if (value != 0 && value != 1) refuse(std::string(name) + " must be 0 or 1, got " + std::to_string(value));
    return value == 1;
  }

  template <std::size_t N>
  std::array<float, N> numbers(const char* name, std::array<float, N> absent) const {
    return several<float, N>(name, absent, ORT_OP_ATTR_FLOATS, Ort::GetApi().KernelInfoGetAttributeArray_float);
  }

  template <std::size_t N>
  std::array<std::int64_t, N> integers(const char* name, std::array<std::int64_t, N> absent) const {
    return several<std::int64_t, N>(name, absent, ORT_OP_ATTR_INTS, Ort::GetApi().KernelInfoGetAttributeArray_int64);
  }

  std::string word(const char* name) const {  // "" where it is absent; words have fewer than 64 letters
    char value[64] = {};
    std::size_t size = sizeof(value) - 1;
    bool there = false;
    if (info_) {
      there = present(Ort::GetApi().KernelInfoGetAttribute_string(info_, name, value, &size));
    } else if (const OrtOpAttr* attribute = find(name)) {
      there = present(Ort::GetApi().ReadOpAttr(attribute, ORT_OP_ATTR_STRING, value, size, &size));
    }
    return there ? value : "";
  }

 private:
  static bool present(OrtStatus* status) {
    if (!status) return true;
    Ort::GetApi().ReleaseStatus(status);
    return false;
  }

  const OrtOpAttr* find(const char* name) const {
    const OrtOpAttr* found = nullptr;
    return present(Ort::GetApi().ShapeInferContext_GetAttribute(context_, name, &found)) ? found : nullptr;
  }

  template <class T, class Get>
  bool read(const char* name, OrtOpAttrType type, T* value, std::size_t bytes, Get get) const {
    if (info_) return present(get(info_, name, value));
    const OrtOpAttr* attribute = find(name);
    return attribute && present(Ort::GetApi().ReadOpAttr(attribute, type, value, bytes, &bytes));
  }

  template <class T, std::size_t N, class Get>
  std::array<T, N> several(const char* name, std::array<T, N> absent, OrtOpAttrType type, Get get) const {
    constexpr std::size_t kMost = 64;
    T values[kMost];
    std::size_t size = 0;
    bool there;
    if (info_) {
      if (!present(get(info_, name, nullptr, &size))) return absent;
      there = size <= kMost && present(get(info_, name, values, &size));
    } else {
      const OrtOpAttr* attribute = find(name);
      if (!attribute) return absent;
      there = present(Ort::GetApi().ReadOpAttr(attribute, type, values, sizeof(values), &size));
      size /= sizeof(T);
    }
    if (!there || size != N) {
      refuse(std::string(name) + " must have " + std::to_string(N) + " values, got " + std::to_string(size));
    }
    std::array<T, N> result;
    std::copy_n(values, N, result.begin());
    return result;
  }

  const OrtKernelInfo* info_ = nullptr;
  const OrtShapeInferContext* context_ = nullptr;
};

}  // namespace edgegrain
