// A convolution of channels-last maps with what follows it, for both devices.
//
//   v = clamp(gain * leaky(conv(x) * demodulation[b, o] + noise[h, w] + bias[o]))
//   v = residual + scale * v              with a residual; with `residual_first` it is part of the sum above instead
//   v = outer + outer_scale * v           with an outer
//   y = v, and modulated = v * style[b, o]
//
// Sums are float32; v is rounded to T once, when it is stored.
//
// Window (n, m), n < rows, m < columns, covers the pixels (n * stride - pad_top + i, m * stride - pad_left + j) of x,
// i < kernel_height, j < kernel_width; pixels outside of x are zeros.
//   shuffle 1: it gives the pixel (n, m) of y, its channel o with the filter o.
//   shuffle 2 (a transposed convolution of stride 2): it gives the four pixels (2 n + a, 2 m + b) of y, a, b < 2, as
//   far as they lie in y, their channel o with the filter (2 a + b) * out_channels + o; with `shift` 1 the window of
//   phase (a, b) begins a rows further down and b columns further to the right.
#pragma once

#include <cstddef>

#include "bias_act.h"

namespace edgegrain {

constexpr int kMaxTaps = 49;  // kernel_height * kernel_width

// Null pointers leave their step out. A stride is the number of elements from one pixel to the next, at least the
// channels: maps may be slices of wider ones. In other respects maps are dense: rows follow rows, pictures pictures.
template <class T>
struct Conv {
  const T* x;                 // [B, H, W, split], the first channels of C
  const T* more;              // [B, H, W, C - split], the others; null if x has all
  const T* weight;            // [shuffle^2 * O, kernel_height, kernel_width, C]; depthwise: [C, kernel_height,
                              // kernel_width]
  const float* demodulation;  // [B, O]
  const T* noise;             // [OH, OW]
  const float* bias;          // [O]
  const float* style;         // [B, O]
  const T* residual;          // [B, OH, OW, O]
  const T* outer;             // [B, OH, OW, O]
  T* y;                       // [B, OH, OW, O]; null where only `modulated` is wanted. May be another slice of x's map.
  T* modulated;               // [B, OH, OW, O], dense; null without a style

  std::int64_t x_stride, more_stride, y_stride, residual_stride, outer_stride;
  std::int64_t weight_stride;  // from one picture's filters to the next: their size, or 0 where they share them

  std::int32_t batch, height, width, channels;      // of x and `more` together
  std::int32_t split;                                // channels of x
  std::int32_t out_height, out_width, out_channels;  // of y: OH, OW, O; OH = rows, 2 * rows or 2 * rows - 1
  std::int32_t kernel_height, kernel_width;
  std::int32_t rows, columns;                        // of windows
  std::int32_t pad_top, pad_left, stride;            // stride 1 or 2
  std::int32_t shuffle, shift;                       // 1 or 2; 0 or 1
  bool depthwise;       // O = C, channel c of y of channel c of x; shuffle is 1, and x has all channels
  bool residual_first;  // see above

  float slope, gain, clamp;  // slope 1: linear; clamp 0: none
  float scale, outer_scale;
};

// On the GPU; defined in conv_cuda.cu for float and Half.

// Bytes of device memory that the launch wants for itself (for sums of a split inner dimension); 0 for none.
template <class T>
std::size_t convolution_workspace(const Conv<T>& conv);

// Puts the convolution on a CUDA stream and does not wait. Null, or why it could not be put there. `workspace`: as many
// bytes as `convolution_workspace` says, aligned to 256, which keep until the stream is done with them.
template <class T>
const char* launch_convolution(const Conv<T>& conv, void* workspace, void* stream);

}  // namespace edgegrain
