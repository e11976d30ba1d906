#pragma once
// A python3 process that measures its own multiprocessing, beside which ours is set. It is started
// once, stays warm, and does nothing between two measurements.

#include <benchmark/benchmark.h>
#include <sys/types.h>

#include <cstdio>
#include <string>

namespace bench {

class PythonPeer {
 public:
  PythonPeer() = default;
  PythonPeer(const PythonPeer&) = delete;
  PythonPeer& operator=(const PythonPeer&) = delete;
  ~PythonPeer();

  // Seconds that Python takes for `n` of `what`, measured by itself:
  //   map          Pool(2).map of n calls of a function that returns its argument
  //   apply_async  n calls of it, all submitted before the first result is awaited
  //   executor     the same with a ProcessPoolExecutor(2)
  //   joblib_large two results of n bytes from joblib's workers; has_joblib: 1 if it is there
  //   dask_round_trip, dask_map: n tasks of Dask's distributed, on two processes; dask_payload: one
  //                with n bytes there and back; has_dask: 1 if it is there
  //   process      n times Process(...), start() and join(), one after the other
  //   value        two processes that add 1 to one Value n times each, with its lock
  //   lock         n times RLock.acquire() and release()
  //   event        n times Event.set() and clear()
  //   queue        n numbers through a Queue, from one process to another; queue_two: from two to
  //                two; queue_text: n texts of 1000 characters
  //   pipe         n times 64 bytes through a Pipe to another process and back
  //   dict         n times a value of Manager().dict() read and written; dict_two: by two processes
  // Throws std::runtime_error when there is no python3 or it fails.
  double seconds(const std::string& what, long n);
  // Runs a benchmark with manual time of it, per item; `items` in each run, n if not said. Skips it
  // with an error where seconds() throws.
  void measure(benchmark::State& state, const std::string& what, long n, long items = 0);

 private:
  void start();

  pid_t pid_ = -1;
  std::FILE* commands_ = nullptr;
  std::FILE* answers_ = nullptr;
};

}  // namespace bench
