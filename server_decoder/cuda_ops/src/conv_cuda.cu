// Convolutions on the GPU: which kernel computes one, in which tiles.
#include <algorithm>
#include <limits>

#include "conv.h"
#include "conv_depthwise.h"
#include "conv_simt.h"
#include "conv_tensor.h"
#include "launch_kernel.h"

namespace edgegrain {
namespace {

constexpr char kTooLarge[] = "a convolution is too large for 32-bit indices";
constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();

std::int64_t pieces(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

// The problem in tiles of kM windows and kN filters, and the number of blocks.
template <class T>
struct Tiling {
  Problem<T> problem{};
  std::int64_t blocks = 0;
};

// Windows that have more than a pixel in common are cheaper to read in squares than in rows.
template <class T>
Tiling<T> tile(const Conv<T>& conv, int tile_m, int tile_n, int square_width) {
  Tiling<T> tiling;
  Problem<T>& problem = tiling.problem;
  problem.conv = conv;
  problem.groups = conv.shuffle == 2 && conv.shift ? 4 : 1;
  problem.filters = conv.out_channels * (conv.shuffle == 2 && !conv.shift ? 4 : 1);
  problem.filter_tiles = static_cast<std::int32_t>(pieces(problem.filters, tile_n));
  problem.wide = is_wide_output(conv);
  const std::int64_t windows = static_cast<std::int64_t>(conv.batch) * conv.rows * conv.columns;
  std::int64_t tiles = pieces(windows, tile_m);
  // Squares do not cross pictures, so they are the tiles where every picture has filters of its own.
  if (conv.weight_stride || (square_width && conv.kernel_height * conv.kernel_width > 1)) {
    const std::int64_t x = pieces(conv.columns, square_width), y = pieces(conv.rows, tile_m / square_width);
    const std::int64_t squares = conv.batch * x * y;
    if (conv.weight_stride || squares <= tiles + tiles / 16) {
      problem.tile_width = square_width;
      problem.tiles_x = static_cast<std::int32_t>(x), problem.tiles_y = static_cast<std::int32_t>(y);
      tiles = squares;
    }
  }
  tiling.blocks = tiles * problem.filter_tiles * problem.groups;
  return tiling;
}

template <class T>
bool has_small_indices(const Conv<T>& conv) {
  const std::int64_t inner = static_cast<std::int64_t>(conv.kernel_height) * conv.kernel_width * conv.channels;
  return conv.height <= kLargestSide && conv.width <= kLargestSide && conv.rows <= kLargestSide &&
         conv.columns <= kLargestSide && inner <= kLargest / 2 && 4ll * conv.out_channels <= kLargest;
}

// ------------------------------------------------------------------------------------------------ tensor cores

template <class T, bool kChannelsFirst>
const char* run_tile(const Conv<Half>& conv, int square_width, void* stream) {
  const Tiling<Half> tiling = tile(conv, T::kM, T::kN, square_width);
  if (tiling.blocks > kLargest) return kTooLarge;
  return start(convolve_on_tensor_cores<T, kChannelsFirst>, static_cast<unsigned>(tiling.blocks), T::kThreads,
               T::kShared, stream, tiling.problem);
}

template <class T>
const char* run_tile(const Conv<Half>& conv, int square_width, void* stream) {
  if constexpr (T::kCopy == 16 && T::kWarpsK == 1) {
    if (conv.channels % T::kSlice == 0 && (!conv.more || conv.split % T::kSlice == 0) &&
        conv.kernel_height * conv.kernel_width > 1) {
      return run_tile<T, true>(conv, square_width, stream);
    }
  }
  return run_tile<T, false>(conv, square_width, stream);
}

struct Candidate {
  int m, n, square_width;
  // Share of the tensor cores' rate that a multiprocessor full of such tiles is taken to reach: the more windows and
  // filters a warp has, the less it reads for each product. An estimate, from counts of instructions and of bytes.
  float rate;
  const char* (*run)(const Conv<Half>&, int, void*);
};

template <class T>
constexpr Candidate candidate(int square_width, float rate) {
  return {T::kM, T::kN, square_width, rate, run_tile<T>};
}

constexpr Candidate kCandidates[] = {
    candidate<Tile<128, 128, 2, 2, 1, 3, 16, 2>>(16, 1.0f),
    candidate<Tile<128, 64, 2, 2, 1, 4, 16, 2>>(16, 0.9f),
    candidate<Tile<256, 32, 4, 1, 1, 3, 16, 2>>(16, 0.75f),
    candidate<Tile<128, 32, 4, 1, 1, 4, 16, 3>>(16, 0.65f),
    candidate<Tile<64, 64, 2, 2, 1, 4, 16, 3>>(8, 0.7f),
    candidate<Tile<128, 16, 4, 1, 1, 4, 16, 4>>(16, 0.4f),
    candidate<Tile<32, 32, 1, 1, 4, 4, 16, 2>>(8, 0.5f),
    candidate<Tile<16, 32, 1, 1, 8, 3, 16, 1>>(4, 0.3f),
};

// For few or odd channels.
template <int kCopy>
constexpr Candidate kNarrowCandidates[] = {
    candidate<Tile<128, 64, 2, 2, 1, 4, kCopy, 2>>(16, 0.8f),
    candidate<Tile<128, 32, 4, 1, 1, 4, kCopy, 3>>(16, 0.6f),
    candidate<Tile<128, 16, 4, 1, 1, 4, kCopy, 4>>(16, 0.4f),
};

int multiprocessors() {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess || count < 1) {
    cudaGetLastError();
    return 1;
  }
  return count;
}

// In the tiles with which the busiest multiprocessor is done first.
template <std::size_t kCount>
const char* run_fastest(const Candidate (&candidates)[kCount], const Conv<Half>& conv, void* stream) {
  const int processors = multiprocessors();
  const Candidate* best = nullptr;
  float least = 0.0f;
  for (const Candidate& candidate : candidates) {
    const std::int64_t blocks = tile(conv, candidate.m, candidate.n, candidate.square_width).blocks;
    const float time = static_cast<float>(pieces(blocks, processors)) * candidate.m * candidate.n / candidate.rate;
    if (!best || time < least) best = &candidate, least = time;
  }
  return best->run(conv, best->square_width, stream);
}

// True if copies of kBytes can read a map with such pixels.
template <int kBytes>
bool has_pieces_of(const Half* map, std::int64_t channels, std::int64_t stride) {
  constexpr int kElements = kBytes / 2;
  return reinterpret_cast<std::uintptr_t>(map) % kBytes == 0 && channels % kElements == 0 && stride % kElements == 0;
}

// True if they can read all that a convolution reads, at 32-bit distances. Windows and filters of a tile may lie beyond
// the last; their places are computed, though nothing is read there.
template <int kBytes>
bool has_pieces_of(const Conv<Half>& conv) {
  const std::int64_t taps = static_cast<std::int64_t>(conv.kernel_height) * conv.kernel_width;
  const std::int64_t pixels = (conv.batch + 2ll) * conv.height * conv.width + 600ll * conv.width;
  const std::int64_t stride = std::max(conv.x_stride, conv.more ? conv.more_stride : 0);
  return has_pieces_of<kBytes>(conv.x, conv.channels, conv.x_stride) &&
         (!conv.more || has_pieces_of<kBytes>(conv.more, conv.split, conv.more_stride)) &&
         has_pieces_of<kBytes>(conv.weight, conv.channels, conv.weight_stride) && taps <= 32 &&
         pixels <= kLargest && 64 * taps * conv.channels <= kLargest &&
         2 * stride * conv.width * (conv.kernel_height + 1) <= kLargest;
}

// ------------------------------------------------------------------------------------------------ other kernels

template <class T, class S>
const char* run_simt(const Conv<T>& conv, void* stream) {
  const Tiling<T> tiling = tile(conv, S::kM, S::kN, conv.weight_stride ? 8 : 0);
  if (tiling.blocks > kLargest) return kTooLarge;
  return start(convolve_simt<T, S>, static_cast<unsigned>(tiling.blocks), S::kThreads, S::kShared, stream,
               tiling.problem);
}

template <class Kernel>
const char* run_depthwise(const Kernel& kernel, std::int64_t items, void* stream) {
  if (items > kLargest) return kTooLarge;
  return start(convolve_depthwise<Kernel>, static_cast<unsigned>(pieces(items, Kernel::kThreads)), Kernel::kThreads,
               0, stream, kernel, static_cast<std::uint32_t>(items));
}

template <class T>
const char* run_depthwise(const Conv<T>& conv, void* stream) {
  using Fast = Depthwise3x3<T>;
  const std::int64_t columns = static_cast<std::int64_t>(conv.batch) * conv.columns;
  if (conv.kernel_height == Fast::kSide && conv.kernel_width == Fast::kSide && conv.stride == 1 &&
      is_wide(conv.x) && conv.x_stride % kWide<T> == 0 && is_wide(conv.weight) && is_wide_output(conv)) {
    const std::int64_t runs = conv.channels / kWide<T>, bands = pieces(conv.rows, Fast::kRows);
    const Fast kernel{conv, static_cast<std::int32_t>(runs), static_cast<std::int32_t>(bands)};
    return run_depthwise(kernel, columns * bands * runs, stream);
  }
  return run_depthwise(DepthwiseAny<T>{conv}, columns * conv.rows * conv.channels, stream);
}

}  // namespace

// All kernels sum within a block.
template <class T>
std::size_t convolution_workspace(const Conv<T>&) {
  return 0;
}

template <class T>
const char* launch_convolution(const Conv<T>& conv, void*, void* stream) {
  if (conv.batch <= 0 || conv.rows <= 0 || conv.columns <= 0 || conv.out_channels <= 0) return nullptr;
  if (!has_small_indices(conv)) return kTooLarge;
  if (conv.depthwise) return run_depthwise(conv, stream);
  if constexpr (sizeof(T) == sizeof(Half)) {
    if (has_pieces_of<16>(conv)) return run_fastest(kCandidates, conv, stream);
    if (has_pieces_of<8>(conv)) return run_fastest(kNarrowCandidates<8>, conv, stream);
    if (has_pieces_of<4>(conv)) return run_fastest(kNarrowCandidates<4>, conv, stream);
  }
  if (conv.out_channels <= 8) return run_simt<T, SimtTile<256, 8, 4, 2>>(conv, stream);
  return run_simt<T, SimtTile<64, 64, 4, 4>>(conv, stream);
}

template std::size_t convolution_workspace(const Conv<float>&);
template std::size_t convolution_workspace(const Conv<Half>&);
template const char* launch_convolution(const Conv<float>&, void*, void*);
template const char* launch_convolution(const Conv<Half>&, void*, void*);

}  // namespace edgegrain
