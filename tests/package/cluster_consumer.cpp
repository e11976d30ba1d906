// A user of brood::cluster: there is no server, and that is said.
#include <brood/brood.hpp>
#include <brood/cluster_pool.hpp>

#include <cstdio>

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  try {
    const brood::ClusterPool pool({.url = "nats://127.0.0.1:1"});
  } catch (const brood::EngineError& e) {
    std::puts(e.what());
    return 0;
  }
  return 1;
}
