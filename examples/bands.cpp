// An image in shared memory, blurred in bands by a pool: the pixels are never copied, what crosses
// is a handle and two numbers.
#include <brood/brood.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <tuple>
#include <vector>

constexpr std::size_t kHeight = 600;
constexpr std::size_t kWidth = 800;

// [band]
using Image = brood::SharedArray<float>;

/// Rows [from, to) of `out`: the mean of each pixel of `in` and its neighbours.
void blur(Image in, Image out, std::size_t from, std::size_t to) {
  const auto source = in.view(kHeight, kWidth);
  const auto target = out.view(kHeight, kWidth);
  // [/band]
  for (std::size_t y = from; y != to; ++y) {
    for (std::size_t x = 0; x != kWidth; ++x) {
      float sum = 0;
      float count = 0;
      for (std::size_t v = y == 0 ? 0 : y - 1; v <= std::min(y + 1, kHeight - 1); ++v) {
        for (std::size_t u = x == 0 ? 0 : x - 1; u <= std::min(x + 1, kWidth - 1); ++u) {
          sum += source(v, u);
          ++count;
        }
      }
      target(y, x) = sum / count;
    }
  }
}

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  Image in(kHeight * kWidth);
  for (std::size_t i = 0; i != in.size(); ++i) in[i] = std::sin(static_cast<float>(i));

  // [bands]
  Image out(kHeight * kWidth);
  constexpr std::size_t kRows = 50;
  std::vector<std::tuple<Image, Image, std::size_t, std::size_t>> bands;
  for (std::size_t row = 0; row < kHeight; row += kRows) {
    bands.emplace_back(in, out, row, std::min(row + kRows, kHeight));
  }
  brood::Pool pool;
  pool.starmap(blur, bands);
  // [/bands]

  Image alone(kHeight * kWidth);
  blur(in, alone, 0, kHeight);
  std::printf(
      "%zu bands, %s\n", bands.size(),
      std::equal(out.begin(), out.end(), alone.begin()) ? "as one process does it" : "wrong");
}
