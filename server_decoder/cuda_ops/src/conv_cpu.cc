#include "conv_cpu.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <vector>

namespace edgegrain {
namespace {

// Best first.
const std::vector<const ConvKernels*>& available() {
  static const std::vector<const ConvKernels*> kernels = [] {
    std::vector<const ConvKernels*> found;
#ifdef EDGEGRAIN_X86_KERNELS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma")) {
      found.push_back(&kAvx512Kernels);
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2Kernels);
#endif
    found.push_back(&kBaselineKernels);
    return found;
  }();
  return kernels;
}

std::atomic<const ConvKernels*> chosen{nullptr};

const ConvKernels& current() {
  const ConvKernels* kernels = chosen;
  return kernels ? *kernels : *available().front();
}

constexpr int kNarrow = 4;  // filters

std::int64_t divided(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

}  // namespace

bool use_instruction_set(const char* name) {
  if (!name) {
    chosen = nullptr;
    return true;
  }
  for (const ConvKernels* kernels : available()) {
    if (std::strcmp(kernels->name, name) == 0) {
      chosen = kernels;
      return true;
    }
  }
  return false;
}

template <class T>
PackedFilters::PackedFilters(const Conv<T>& shape) : kernels_(&current()) {
  const std::size_t taps = static_cast<std::size_t>(shape.kernel_height) * shape.kernel_width;
  const std::size_t channels = shape.channels, filters = shape.out_channels, panel = kernels_->panel;
  const std::size_t phases = static_cast<std::size_t>(shape.shuffle) * shape.shuffle;
  const std::size_t panels = (filters + panel - 1) / panel;  // of a phase
  if (shape.depthwise) {
    form_ = Form::depthwise;
  } else if (phases == 1 && shape.out_channels <= kNarrow && shape.out_channels <= kernels_->lanes &&
             shape.channels >= kernels_->lanes) {
    form_ = Form::narrow;
  } else {
    form_ = Form::dense;
  }
  panels_ = form_ == Form::dense ? static_cast<int>(phases * panels) : 1;
  size_ = form_ == Form::dense ? phases * panels * taps * channels * panel : taps * channels * (shape.depthwise ? 1 : filters);
  memory_.reset(static_cast<float*>(::operator new((size_ + channels) * sizeof(float), std::align_val_t{64})));
  float* const to = memory_.get();
  std::fill_n(to, size_ + channels, 0.0f);
  for (std::size_t row = 0; row < (shape.depthwise ? 1 : phases * filters); ++row) {
    for (std::size_t tap = 0; tap < taps; ++tap) {
      for (std::size_t c = 0; c < channels; ++c) {
        std::size_t place, from = (row * taps + tap) * channels + c;
        if (form_ == Form::dense) {
          const std::size_t phase = row / filters, o = row % filters;
          place = (((phase * panels + o / panel) * taps + tap) * channels + c) * panel + o % panel;
        } else {
          place = from;
          if (shape.depthwise) from = c * taps + tap;
        }
        to[place] = to_float(shape.weight[from]);
      }
    }
  }
}

template <class T>
void convolve(const Conv<T>& conv, const PackedFilters& filters, const float* x, std::int64_t x_stride,
              const Parallel& parallel) {
  const std::int64_t windows = std::int64_t{conv.rows} * conv.columns;
  if (!windows || !conv.batch) return;
  // A piece's part of x should stay in the first-level cache, its filters in the second: see how they are divided below.
  constexpr std::int64_t kMapBytes = 64 << 10, kFilterBytes = 256 << 10;
  const std::int64_t pixel_bytes = std::int64_t{conv.channels} * 4 * conv.stride * conv.stride;
  std::int64_t share = std::clamp<std::int64_t>(kMapBytes / pixel_bytes, 56, 1024);
  share = divided(windows, divided(windows, share));  // equal ones
  if (conv.columns >= 28) share = divided(share, conv.columns) * conv.columns;  // of whole rows

  struct Work {
    const Conv<T>* conv;
    const PackedFilters* filters;
    const float* x;
    std::int64_t x_stride, windows, share, shares, groups;
    bool group_by_group;
    void (*run)(const ConvPiece<T>&);
  } work{&conv, &filters, x, x_stride, windows, share, divided(windows, share), 1, false, nullptr};
  const bool large = static_cast<std::int64_t>(filters.bytes()) > kFilterBytes;
  work.groups = large ? filters.panels() : 1;
  // Too many filters for the cache: one panel with the whole map, then the next one.
  work.group_by_group = static_cast<std::int64_t>(filters.bytes()) > 2 * kFilterBytes;
  const int form = static_cast<int>(filters.form());
  if constexpr (sizeof(T) == 4) {
    work.run = filters.kernels().run_float[form];
  } else {
    work.run = filters.kernels().run_half[form];
  }
  const auto piece = [](void* data, std::size_t index) {
    const Work& work = *static_cast<const Work*>(data);
    const std::int64_t per_group = work.conv->batch * work.shares, item = static_cast<std::int64_t>(index);
    const std::int64_t group = work.group_by_group ? item / per_group : item % work.groups;
    const std::int64_t place = work.group_by_group ? item % per_group : item / work.groups;
    ConvPiece<T> piece{work.conv, work.x, work.x_stride, work.filters->filters(), work.filters->zeros(), 0, 0, 0, 0, 0};
    piece.picture = static_cast<std::int32_t>(place / work.shares);
    piece.first = place % work.shares * work.share;
    piece.last = std::min(piece.first + work.share, work.windows);
    piece.first_panel = static_cast<std::int32_t>(work.groups == 1 ? 0 : group);
    piece.last_panel = work.groups == 1 ? work.filters->panels() : piece.first_panel + 1;
    work.run(piece);
  };
  const std::size_t pieces = static_cast<std::size_t>(conv.batch * work.shares * work.groups);
  if (pieces == 1) {
    piece(&work, 0);
  } else {
    parallel.run(piece, pieces, &work);
  }
}

template PackedFilters::PackedFilters(const Conv<float>&);
template PackedFilters::PackedFilters(const Conv<Half>&);
template void convolve(const Conv<float>&, const PackedFilters&, const float*, std::int64_t, const Parallel&);
template void convolve(const Conv<Half>&, const PackedFilters&, const float*, std::int64_t, const Parallel&);

}  // namespace edgegrain
