// The convolution of conv.h on the CPU.
//
// Filters are packed once: 16 or 32 of them ("a panel") side by side, so that a step of the inner loop multiplies one
// value of x by a vector of filters. Sums of up to 14 windows and one panel stay in registers until they are finished.
// The kernels are compiled for several instruction sets, one is chosen at run time.
#pragma once

#include <memory>

#include "conv.h"

namespace edgegrain {

constexpr int kMaxTaps = 49;  // kernel_height * kernel_width

// The use of the filters, which decides how they are packed.
enum class Form {
  dense,      // [phase, panel of O, tap, C, filter of the panel]: most convolutions
  narrow,     // [O, tap, C]: so few filters that the vectors are of x's channels
  depthwise,  // [tap, C]
  winograd,   // [panel of O, 36, C, filter of the panel]: large maps and 3 x 3 taps
};

// The maps that a convolution reads, as float: x with the channels before `split`, `more` (or null) with the others.
struct FloatMaps {
  const float *x, *more;
  std::int64_t x_stride, more_stride;
  std::int32_t split;
};

// A share of the work: windows first...last of a picture, panels first...last. Narrow and depthwise convolutions have
// one panel.
template <class T>
struct ConvPiece {
  const Conv<T>* conv;
  FloatMaps maps;
  const float* filters;  // all of them, packed
  const float* zeros;    // C of them
  float* scratch;        // for winograd, of this thread
  std::int32_t picture, first_panel, last_panel;
  std::int64_t first, last;  // windows; for winograd, tiles
};

// The kernels of one instruction set.
struct ConvKernels {
  const char* name;
  int lanes, panel;  // floats of a vector, filters of a panel
  void (*run_float[4])(const ConvPiece<float>&);  // by Form
  void (*run_half[4])(const ConvPiece<Half>&);
};

extern const ConvKernels kBaselineKernels;
#ifdef EDGEGRAIN_X86_KERNELS
extern const ConvKernels kAvx2Kernels, kAvx512Kernels;
#endif

// The instruction set of filters packed from now on: "avx512", "avx2" or "baseline"; null for the best one. False if
// the CPU or the library does not have it. For tests and measurements.
bool use_instruction_set(const char* name);

// The filters of a convolution as its kernels want them; independent of the memory they came from.
class PackedFilters {
 public:
  // Of `shape` count the weight, its sizes, `shuffle` and `depthwise`; with `rows`, `columns` and `stride`, where they
  // are known, filters for large maps are transformed for Winograd's algorithm. The maps may have other sizes later.
  template <class T>
  explicit PackedFilters(const Conv<T>& shape);

  const ConvKernels& kernels() const { return *kernels_; }
  Form form() const { return form_; }
  int panels() const { return panels_; }
  const float* filters() const { return memory_.get(); }
  const float* zeros() const { return memory_.get() + size_; }
  std::size_t bytes() const { return size_ * sizeof(float); }

 private:
  struct Free {
    void operator()(float* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };
  const ConvKernels* kernels_;
  Form form_;
  int panels_;        // of all phases
  std::size_t size_;  // floats
  std::unique_ptr<float, Free> memory_;
};

// Calls of piece(data, index) for all indices below `count`, on any threads.
class Parallel {
 public:
  using Piece = void (*)(void* data, std::size_t index);

  virtual void run(Piece piece, std::size_t count, void* data) const = 0;

 protected:
  ~Parallel() = default;
};

// `maps`: those of `conv`, itself or converted. They are read in place of conv.x and conv.more.
template <class T>
void convolve(const Conv<T>& conv, const PackedFilters& filters, const FloatMaps& maps, const Parallel& parallel);

}  // namespace edgegrain
