// Another program, which can be an agent, of functions that nobody else has.
#include <brood/cluster_pool.hpp>
#include <brood/runtime.hpp>

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  const brood::ClusterPool pool;
  return static_cast<int>(pool.nodes().size());
}
