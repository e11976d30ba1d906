// A program on a cluster, as the guide shows it; its agents are the same program, cluster_app
// --brood-agent URL.
// [program]
#include <brood/brood.hpp>
#include <brood/cluster_pool.hpp>

#include <cstdio>
#include <vector>

/// Something that takes long enough to go far for.
double heavy(int n) {
  double sum = 0;
  for (int i = 1; i <= n; ++i) sum += 1.0 / i;
  return sum;
}

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);  // in an agent it works, and does not return

  brood::ClusterPool pool;  // the only line that differs from a brood::Pool
  const std::vector<int> inputs{1'000'000, 2'000'000, 3'000'000, 4'000'000};
  for (const double sum : pool.map(heavy, inputs)) std::printf("%.6f\n", sum);
}
// [/program]
