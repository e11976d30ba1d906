// Queues: jobs to some workers, results back; whoever takes a job has it alone, and the end of the
// queue ends the workers.
#include <brood/brood.hpp>

#include <cstdio>
#include <string>
#include <vector>

struct Job {
  int number = 0;
  std::string text;
};
struct Result {
  int number = 0;
  std::size_t length = 0;
};

// [work]
void work(brood::Queue<Job> jobs, brood::Queue<Result> results) {
  for (const Job& job : jobs) results.put({job.number, job.text.size()});  // until it is closed
}
// [/work]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  // [main]
  brood::Queue<Job> jobs(100);  // put() waits while there are 100 in it
  brood::Queue<Result> results;
  std::vector<brood::Process> workers;
  for (int i = 0; i != 3; ++i) workers.emplace_back(work, jobs, results).start();

  for (int i = 0; i != 1000; ++i) jobs.put({i, std::string(static_cast<std::size_t>(i), '.')});
  jobs.close();
  for (brood::Process& worker : workers) worker.join();
  results.close();
  // [/main]

  std::size_t count = 0;
  std::size_t sum = 0;
  for (const Result& result : results) {
    ++count;
    sum += result.length;
  }
  std::printf("%zu results, %zu characters\n", count, sum);
}
