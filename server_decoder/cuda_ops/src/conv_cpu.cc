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

constexpr int kNarrow = 4;  // filters, each in a lane of their own

constexpr int kTransformed = 36;  // taps of a filter that was transformed

// Large maps of many channels: small ones read four times the filters for too little.
template <class T>
bool suits_winograd(const Conv<T>& shape) {
  constexpr std::int64_t kTiles = 64, kChannels = 16;
  const std::int64_t tiles = std::int64_t{(shape.rows + 3) / 4} * ((shape.columns + 3) / 4);
  return shape.kernel_height == 3 && shape.kernel_width == 3 && shape.stride == 1 && shape.shuffle == 1 &&
         tiles >= kTiles && shape.rows >= 12 && shape.columns >= 12 && shape.channels >= kChannels &&
         shape.out_channels >= kChannels;
}

// G g G^T of conv_cpu_winograd.h: nine taps, `step` apart, to 36 that are `to_step` apart.
template <class T>
void transform_filter(const T* taps, std::size_t step, float* to, std::size_t to_step) {
  constexpr double kG[6][3] = {{64.0 / 81, 0, 0},
                               {-128.0 / 243, -32.0 / 81, -8.0 / 27},
                               {-128.0 / 243, 32.0 / 81, -8.0 / 27},
                               {32.0 / 243, 16.0 / 81, 8.0 / 27},
                               {32.0 / 243, -16.0 / 81, 8.0 / 27},
                               {0, 0, 1}};
  double half[6][3];
  for (int i = 0; i < 6; ++i) {
    for (int b = 0; b < 3; ++b) {
      half[i][b] = 0;
      for (int a = 0; a < 3; ++a) half[i][b] += kG[i][a] * to_float(taps[(3 * a + b) * step]);
    }
  }
  for (int i = 0; i < 6; ++i) {
    for (int j = 0; j < 6; ++j) {
      double sum = 0;
      for (int b = 0; b < 3; ++b) sum += half[i][b] * kG[j][b];
      to[(6 * i + j) * to_step] = static_cast<float>(sum);
    }
  }
}

// At least `floats` floats of this thread's own memory, aligned to 64 bytes; it stays for the next call.
float* thread_scratch(std::size_t floats) {
  struct Free {
    void operator()(float* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };
  thread_local std::unique_ptr<float, Free> memory;
  thread_local std::size_t size = 0;
  if (size < floats) {
    memory.reset();
    size = 0;
    memory.reset(static_cast<float*>(::operator new(floats * sizeof(float), std::align_val_t{64})));
    size = floats;
  }
  return memory.get();
}

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
  } else if (phases == 1 && shape.out_channels <= kNarrow && kernels_->lanes >= kNarrow &&
             shape.channels >= kernels_->lanes) {
    form_ = Form::narrow;
  } else if (suits_winograd(shape)) {
    form_ = Form::winograd;
  } else {
    form_ = Form::dense;
  }
  const bool in_panels = form_ == Form::dense || form_ == Form::winograd;
  panels_ = in_panels ? static_cast<int>(phases * panels) : 1;
  const std::size_t side_by_side = in_panels ? phases * panels * panel : shape.depthwise ? 1 : filters;
  size_ = (form_ == Form::winograd ? kTransformed : taps) * channels * side_by_side;
  memory_.reset(static_cast<float*>(::operator new((size_ + channels) * sizeof(float), std::align_val_t{64})));
  float* const to = memory_.get();
  std::fill_n(to, size_ + channels, 0.0f);
  if (form_ == Form::winograd) {
    for (std::size_t o = 0; o < filters; ++o) {
      for (std::size_t c = 0; c < channels; ++c) {
        transform_filter(shape.weight + o * taps * channels + c, channels,
                         to + ((o / panel * kTransformed) * channels + c) * panel + o % panel, channels * panel);
      }
    }
    return;
  }
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
void convolve(const Conv<T>& conv, const PackedFilters& filters, const FloatMaps& maps, const Parallel& parallel) {
  const bool winograd = filters.form() == Form::winograd;
  const std::int64_t windows = winograd ? divided(conv.rows, 4) * divided(conv.columns, 4)
                                        : std::int64_t{conv.rows} * conv.columns;
  if (!windows || !conv.batch) return;
  // A piece's part of x should stay in the first-level cache, its filters in the second.
  constexpr std::int64_t kMapBytes = 64 << 10, kFilterBytes = 256 << 10;
  const std::int64_t pixel_bytes = std::int64_t{conv.channels} * 4 * conv.stride * conv.stride;
  std::int64_t share = std::clamp<std::int64_t>(kMapBytes / pixel_bytes, 56, 1024);
  share = divided(windows, divided(windows, share));  // equal ones
  if (conv.columns >= 28) share = divided(share, conv.columns) * conv.columns;  // of whole rows
  if (winograd) share = divided(windows, divided(windows, conv.channels <= 256 ? 28 : 14));

  struct Work {
    const Conv<T>* conv;
    const PackedFilters* filters;
    const FloatMaps* maps;
    std::int64_t windows, share, shares, groups;
    bool group_by_group;
    void (*run)(const ConvPiece<T>&);
    mutable std::atomic<bool> out_of_memory{false};  // an exception must not leave a piece: others may still run
  } work{&conv, &filters, &maps, windows, share, divided(windows, share), 1, false, nullptr};
  const bool large = static_cast<std::int64_t>(filters.bytes()) > kFilterBytes;
  work.groups = large && !winograd ? filters.panels() : 1;
  // Too many filters for the cache: one panel with the whole map, then the next one.
  work.group_by_group = !winograd && static_cast<std::int64_t>(filters.bytes()) > 2 * kFilterBytes;
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
    ConvPiece<T> piece{work.conv, *work.maps, work.filters->filters(), work.filters->zeros(),
                       nullptr, 0, 0, 0, 0, 0};
    piece.picture = static_cast<std::int32_t>(place / work.shares);
    piece.first = place % work.shares * work.share;
    piece.last = std::min(piece.first + work.share, work.windows);
    piece.first_panel = static_cast<std::int32_t>(work.groups == 1 ? 0 : group);
    piece.last_panel = work.groups == 1 ? work.filters->panels() : piece.first_panel + 1;
    if (work.filters->form() == Form::winograd) {
      const std::int64_t lanes = work.filters->kernels().lanes;
      const std::int64_t tile = (divided(work.conv->channels, lanes) + 1) * lanes + work.filters->kernels().panel;
      try {
        piece.scratch = thread_scratch(kTransformed * work.share * tile);
      } catch (const std::bad_alloc&) {
        work.out_of_memory = true;
        return;
      }
    }
    work.run(piece);
  };
  const std::size_t pieces = static_cast<std::size_t>(conv.batch * work.shares * work.groups);
  if (pieces == 1) {
    piece(&work, 0);
  } else {
    parallel.run(piece, pieces, &work);
  }
  if (work.out_of_memory) throw std::bad_alloc();
}

template PackedFilters::PackedFilters(const Conv<float>&);
template PackedFilters::PackedFilters(const Conv<Half>&);
template void convolve(const Conv<float>&, const PackedFilters&, const FloatMaps&, const Parallel&);
template void convolve(const Conv<Half>&, const PackedFilters&, const FloatMaps&, const Parallel&);

}  // namespace edgegrain
