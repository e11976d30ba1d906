// A program whose arguments and results are larger than a message of the server's may be.
#include <brood/cluster_pool.hpp>
#include <brood/runtime.hpp>

#include <cstddef>
#include <cstdio>
#include <string>

std::string longer(const std::string& text) { return text + '!'; }

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  const brood::ClusterPool pool;
  constexpr std::size_t kBytes = 20'000'000;
  const std::string text = pool.apply(longer, std::string(kBytes, 'x'));
  std::printf("%zu %zu\n", kBytes, text.size());
  return text == std::string(kBytes, 'x') + '!' ? 0 : 1;
}
