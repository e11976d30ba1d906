// What needs the rights of agents: cluster_rights, arguments and results larger than a message of
// the server's may be, and a task at most once; cluster_rights queue, handles in tasks.
#include <brood/cluster_dict.hpp>
#include <brood/cluster_pool.hpp>
#include <brood/cluster_queue.hpp>
#include <brood/errors.hpp>
#include <brood/runtime.hpp>

#include <cstddef>
#include <cstdio>
#include <string>

namespace {

std::string longer(const std::string& text) { return text + '!'; }

int use_handles(const brood::ClusterPool& pool) {
  const brood::ClusterQueue<int> queue("numbers");
  const brood::ClusterDict<std::string, int> sums("sums");
  queue.put(20);
  queue.put(22);
  try {
    pool.apply([](const brood::ClusterQueue<int>& q,
                  const brood::ClusterDict<std::string, int>& d) { d["sum"] += q.get() + q.get(); },
               queue, sums);
  } catch (const brood::Error& e) {
    std::printf("%s\n", e.what());
    return 3;
  }
  std::printf("%d\n", sums.at("sum"));
  return 0;
}

int use_parts(const brood::ClusterPool& pool) {
  constexpr std::size_t kBytes = 20'000'000;
  const std::string text = pool.apply(longer, std::string(kBytes, 'x'));
  const std::string once = pool.at_most_once().apply(longer, std::string("once"));
  std::printf("%zu %zu %s\n", kBytes, text.size(), once.c_str());
  return text == std::string(kBytes, 'x') + '!' ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  const brood::ClusterPool pool;
  return argc > 1 ? use_handles(pool) : use_parts(pool);
}
