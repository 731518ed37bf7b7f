// Convolutions of 3 x 3 pixels by Winograd's algorithm F(4 x 4, 3 x 3) (Lavin and Gray, arXiv:1509.09308): 36 products
// for 16 pixels instead of 144. Included by conv_cpu_kernels.h.
//
// A tile is 6 x 6 pixels of x and 4 x 4 of y. It is transformed (36 maps of C channels), multiplied by transformed
// filters (36 matrices), and transformed back. The points 0, +-3/4, +-3/2 and infinity make the largest error a third
// of that of the usual 0, +-1, +-2: about what the order of summation costs in a direct convolution (docs/cuda_ops.md).
#pragma once

namespace edgegrain {
namespace {

// B^T d.
EDGEGRAIN_HD void transform_input(const Lanes (&d)[6], Lanes (&v)[6]) {
  const Lanes even = d[4] - 2.25f * d[2], odd = 0.75f * d[3] - 1.6875f * d[1];
  const Lanes wide_even = d[4] - 0.5625f * d[2], wide_odd = 1.5f * d[3] - 0.84375f * d[1];
  v[0] = 1.265625f * d[0] - 2.8125f * d[2] + d[4];
  v[1] = even + odd;
  v[2] = even - odd;
  v[3] = wide_even + wide_odd;
  v[4] = wide_even - wide_odd;
  v[5] = 1.265625f * d[1] - 2.8125f * d[3] + d[5];
}

// A^T m.
EDGEGRAIN_HD void transform_output(const Lanes (&m)[6], Lanes (&y)[4]) {
  const Lanes sum = m[1] + m[2], difference = m[1] - m[2], wide_sum = m[3] + m[4], wide_difference = m[3] - m[4];
  y[0] = m[0] + sum + wide_sum;
  y[1] = 0.75f * difference + 1.5f * wide_difference;
  y[2] = 0.5625f * sum + 2.25f * wide_sum;
  y[3] = 0.421875f * difference + 3.375f * wide_difference + m[5];
}

// `count` channels of the tile of a map whose first pixel is (row, column), to 36 places that are `step` apart.
template <bool kFull, class T>
EDGEGRAIN_HD void transform_tile(const Conv<T>& conv, const float* picture, std::int64_t stride, std::int32_t row,
                                 std::int32_t column, std::int32_t channel, int count, float* to, std::int64_t step) {
  const std::int64_t line = conv.width * stride;
  const bool inside = row >= 0 && column >= 0 && row + 6 <= conv.height && column + 6 <= conv.width;
  Lanes half[6][6];  // [column, row]
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    Lanes pixels[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
      const std::int32_t v = row + i, u = column + j;
      const bool there = inside || (v >= 0 && v < conv.height && u >= 0 && u < conv.width);
      const float* const from = picture + (v * line + u * stride + channel);
      pixels[i] = there ? load_some<kFull>(from, count) : Lanes{};
    }
    transform_input(pixels, half[j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    Lanes across[6], values[6];
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) across[j] = half[j][i];
    transform_input(across, values);
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) memcpy(to + (6 * i + j) * step, &values[j], sizeof(Lanes));
  }
}

// The same of all `channels`; up to kLanes - 1 values after them are overwritten.
template <class T>
EDGEGRAIN_HD void transform_tiles(const Conv<T>& conv, const float* picture, std::int64_t stride, std::int32_t row,
                                  std::int32_t column, std::int32_t channels, float* to, std::int64_t step) {
  std::int32_t channel = 0;
  for (; channel + kLanes <= channels; channel += kLanes) {
    transform_tile<true>(conv, picture, stride, row, column, channel, kLanes, to + channel, step);
  }
  if (channel < channels) {
    transform_tile<false>(conv, picture, stride, row, column, channel, channels - channel, to + channel, step);
  }
}

// Vector v of the panels `products` [36, tiles] to pixels of y; `tile`: from the first of these tiles.
template <class Finishing>
EDGEGRAIN_HD void write_tile(const Finishing& finish, const Lanes (*products)[kVectors], int tile, int tiles, int v,
                             std::int32_t row, std::int32_t column, std::int32_t height, std::int32_t width) {
  Lanes half[6][4];  // [column, row]
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    Lanes down[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) down[i] = products[(6 * i + j) * tiles + tile][v];
    transform_output(down, half[j]);
  }
  for (int i = 0; i < 4 && row + i < height; ++i) {
    Lanes across[6], values[4];
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) across[j] = half[j][i];
    transform_output(across, values);
    for (int j = 0; j < 4 && column + j < width; ++j) {
      finish(values[j], std::int64_t{row + i} * width + (column + j));
    }
  }
}

// Windows of the piece are tiles here.
template <class T>
void run_winograd(const ConvPiece<T>& piece) {
  const Conv<T> conv = *piece.conv;
  const int tiles = static_cast<int>(piece.last - piece.first);
  const std::int32_t across = (conv.columns + 3) / 4;
  const std::int64_t padded = (conv.channels + kLanes - 1) / kLanes * kLanes + kLanes;
  float* const maps = piece.scratch;  // [36, tiles, padded]
  auto* const products = reinterpret_cast<Lanes(*)[kVectors]>(maps + 36 * tiles * padded);  // [36, tiles]
  const std::int64_t pixels = std::int64_t{piece.picture} * conv.height * conv.width;  // before this picture
  for (int tile = 0; tile < tiles; ++tile) {
    const std::int32_t row = static_cast<std::int32_t>((piece.first + tile) / across) * 4 - conv.pad_top;
    const std::int32_t column = static_cast<std::int32_t>((piece.first + tile) % across) * 4 - conv.pad_left;
    float* const to = maps + tile * padded;
    const FloatMaps& read = piece.maps;
    transform_tiles(conv, read.x + pixels * read.x_stride, read.x_stride, row, column, read.split, to, tiles * padded);
    if (read.more) {  // what whole vectors wrote beyond the first channels is overwritten
      transform_tiles(conv, read.more + pixels * read.more_stride, read.more_stride, row, column,
                      conv.channels - read.split, to + read.split, tiles * padded);
    }
  }
  for (std::int32_t panel = piece.first_panel; panel < piece.last_panel; ++panel) {
    const std::int32_t channel = panel * kPanel;
    const int channels = static_cast<int>(smaller(kPanel, conv.out_channels - channel));
    const int vectors = (channels + kLanes - 1) / kLanes;
    for (int position = 0; position < 36; ++position) {
      const float* const filters =
          piece.filters + (std::int64_t{panel} * 36 + position) * conv.channels * kPanel;
      for (int at = 0, count; at < tiles; at += count) {
        count = share(at, tiles, 1);
        const float* rows[kWindows];
        for (int w = 0; w < count; ++w) rows[w] = maps + (std::int64_t{position} * tiles + at + w) * padded;
        accumulate_for(count, vectors)(rows, 1, conv.channels, filters, 0, false, products + position * tiles + at);
      }
    }
    for (int v = 0; v < vectors; ++v) {
      with_finish(conv, piece.picture, channel + v * kLanes, channels - v * kLanes, [&](const auto& finish) {
        for (int tile = 0; tile < tiles; ++tile) {
          const std::int32_t row = static_cast<std::int32_t>((piece.first + tile) / across) * 4;
          const std::int32_t column = static_cast<std::int32_t>((piece.first + tile) % across) * 4;
          write_tile(finish, products, tile, tiles, v, row, column, conv.rows, conv.columns);
        }
      });
    }
  }
}

}  // namespace
}  // namespace edgegrain
