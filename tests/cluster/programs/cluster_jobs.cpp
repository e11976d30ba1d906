// As the guide shows it: cluster_jobs URL put, and any number of cluster_jobs URL work.
// [jobs]
#include <brood/brood.hpp>
#include <brood/cluster_dict.hpp>
#include <brood/cluster_queue.hpp>

#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  if (argc < 3) return 2;
  const brood::ClusterOptions cluster{.url = argv[1]};
  const brood::ClusterQueue<std::string> jobs("jobs", cluster, {.maxsize = 1000});
  const brood::ClusterDict<std::string, int> done("done", cluster);

  if (argv[2] == std::string("put")) {
    for (const char* job : {"sweep", "wash", "sweep"}) jobs.put(job);
    jobs.close();
  } else {
    while (auto job = jobs.lease()) {  // until the queue is closed, and empty
      done[job->value()] += 1;         // one atomic step, whoever else counts
      job->ack();                      // killed before this, another gets the job
    }
    for (const auto& [job, times] : done) std::printf("%s %d\n", job.c_str(), times);
  }
}
// [/jobs]
