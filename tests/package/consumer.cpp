// The smallest user of the package: a pool of two processes.
#include <brood/brood.hpp>

#include <cstdio>
#include <vector>

int square(int n) { return n * n; }

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  brood::Pool pool({.workers = 2});
  const std::vector<int> squares = pool.map(square, std::vector<int>{1, 2, 3});
  if (squares == std::vector<int>{1, 4, 9}) return 0;
  std::fprintf(stderr, "the pool returned %zu wrong squares\n", squares.size());
  return 1;
}
