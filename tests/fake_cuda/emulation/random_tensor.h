// Tensors of exactly their size, so that AddressSanitizer sees every access beyond them, with random values.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "number.h"

namespace check {

using edgegrain::Half;

inline std::mt19937& random_source() {
  static std::mt19937 source(1);
  return source;
}

inline int draw(int least, int most) { return std::uniform_int_distribution<int>(least, most)(random_source()); }
inline bool chance(int percent) { return draw(1, 100) <= percent; }

template <std::size_t kCount>
int one_of(const int (&values)[kCount]) {
  return values[draw(0, static_cast<int>(kCount) - 1)];
}

// `offset` elements behind a multiple of 16 bytes.
template <class T>
class Tensor {
 public:
  explicit Tensor(std::size_t size, std::size_t offset = 0) : size_(size), offset_(offset) {
    const std::size_t bytes = (size + offset) * sizeof(T);
    if (posix_memalign(&memory_, 16, bytes ? bytes : 1)) std::abort();
  }
  ~Tensor() { std::free(memory_); }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  T* data() const { return static_cast<T*>(memory_) + offset_; }
  std::size_t size() const { return size_; }
  double operator[](std::size_t i) const { return edgegrain::to_float(data()[i]); }

  void fill(double scale = 1.0) {
    std::normal_distribution<float> normal(0.0f, static_cast<float>(scale));
    for (std::size_t i = 0; i < size_; ++i) data()[i] = edgegrain::from_float<T>(normal(random_source()));
  }

  void fill_with(float value) {
    for (std::size_t i = 0; i < size_; ++i) data()[i] = edgegrain::from_float<T>(value);
  }

 private:
  void* memory_ = nullptr;
  std::size_t size_, offset_;
};

template <class T>
using Optional = std::unique_ptr<Tensor<T>>;

template <class T>
Optional<T> filled(std::size_t size, double scale = 1.0, std::size_t offset = 0) {
  auto tensor = std::make_unique<Tensor<T>>(size, offset);
  tensor->fill(scale);
  return tensor;
}

// Ends the program unless `found` is `wanted`, up to rounding once to T and float32's errors in sums of size `scale`.
template <class T>
void compare(double found, double wanted, double scale, const std::string& description) {
  const double rounding = sizeof(T) == 2 ? std::fabs(wanted) / 2048 + 3e-8 : 0.0;
  if (!(std::fabs(found - wanted) <= rounding + 2e-6 * scale)) {
    std::printf("WRONG: %.9g, expected %.9g (sums of size %g): %s\n", found, wanted, scale, description.c_str());
    std::exit(1);
  }
}

}  // namespace check
