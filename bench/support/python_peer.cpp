#include "python_peer.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <stdexcept>
#include <system_error>

namespace bench {
namespace {

constexpr const char* kScript = R"(
import concurrent.futures, multiprocessing, sys, time

def same(x):
    return x

def nothing():
    pass

def run_map(pool, n):
    assert pool.map(same, range(n)) == list(range(n))

def run_apply_async(pool, n):
    results = [pool.apply_async(same, (i,)) for i in range(n)]
    for result in results:
        result.get()

def run_executor(pool, n):
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        list(executor.map(same, range(100)))
        start = time.perf_counter()
        futures = [executor.submit(same, i) for i in range(n)]
        for future in futures:
            future.result()
        return time.perf_counter() - start

def large(n):
    return bytes(n)

def run_has_joblib(pool, n):
    try:
        import joblib
        return 1
    except ImportError:
        return 2

# The best of its ways.
def run_joblib_large(pool, n):
    from joblib import Parallel, delayed
    best = None
    for backend in ('loky', 'multiprocessing'):
        with Parallel(n_jobs=2, backend=backend) as parallel:
            parallel([delayed(same)(i) for i in range(4)])
            start = time.perf_counter()
            results = parallel([delayed(large)(n), delayed(large)(n)])
            taken = time.perf_counter() - start
            assert [len(result) for result in results] == [n, n]
            best = min(best or taken, taken)
    return best

def run_has_dask(pool, n):
    try:
        import distributed
        return 1
    except ImportError:
        return 2

def with_dask(run):
    import logging
    from distributed import Client, LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                      silence_logs=logging.CRITICAL) as cluster, Client(cluster) as client:
        client.submit(same, -1).result()
        start = time.perf_counter()
        run(client)
        return time.perf_counter() - start

def run_dask_round_trip(pool, n):
    def run(client):
        for i in range(n):
            assert client.submit(same, i, pure=False).result() == i
    return with_dask(run)

def run_dask_map(pool, n):
    return with_dask(lambda client: client.gather(client.map(same, range(n), pure=False)))

def run_dask_payload(pool, n):
    data = bytes(n)
    def run(client):
        assert len(client.submit(same, data, pure=False).result()) == n
    return with_dask(run)

def run_process(pool, n):
    for _ in range(n):
        process = multiprocessing.Process(target=nothing)
        process.start()
        process.join()

def count(value, n):
    for _ in range(n):
        with value.get_lock():
            value.value += 1

def run_value(pool, n):
    value = multiprocessing.Value('l', 0)
    processes = [multiprocessing.Process(target=count, args=(value, n)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert value.value == 2 * n

def run_lock(pool, n):
    lock = multiprocessing.RLock()
    for _ in range(n):
        lock.acquire()
        lock.release()

def run_event(pool, n):
    event = multiprocessing.Event()
    for _ in range(n):
        event.set()
        event.clear()

def put_all(queue, n, what):
    for _ in range(n):
        queue.put(what)

def run_queue_of(producers, n, what):
    queue = multiprocessing.Queue()
    done = multiprocessing.Queue()
    putting = [multiprocessing.Process(target=put_all, args=(queue, n // producers, what))
               for _ in range(producers)]
    getting = [multiprocessing.Process(target=get_all, args=(queue, n // producers, done))
               for _ in range(producers - 1)]
    for process in putting + getting:
        process.start()
    get_all(queue, n // producers, done)
    for process in putting + getting:
        process.join()

def get_all(queue, n, done):
    for _ in range(n):
        queue.get()

def run_queue(pool, n):
    run_queue_of(1, n, 7)

def run_queue_two(pool, n):
    run_queue_of(2, n, 7)

def run_queue_text(pool, n):
    run_queue_of(1, n, 'x' * 1000)

def echo(connection):
    while True:
        message = connection.recv_bytes()
        if not message:
            return
        connection.send_bytes(message)

def run_pipe(pool, n):
    ours, its = multiprocessing.Pipe()
    peer = multiprocessing.Process(target=echo, args=(its,))
    peer.start()
    message = b'x' * 64
    for _ in range(n):
        ours.send_bytes(message)
        ours.recv_bytes()
    ours.send_bytes(b'')
    peer.join()

def get_and_set(shared, n):
    for i in range(n):
        shared[i % 1000] = shared[i % 1000] + 1

def run_dict(pool, n):
    with multiprocessing.Manager() as manager:
        shared = manager.dict({i: 0 for i in range(1000)})
        start = time.perf_counter()
        get_and_set(shared, n)
        return time.perf_counter() - start

def run_dict_two(pool, n):
    with multiprocessing.Manager() as manager:
        shared = manager.dict({i: 0 for i in range(1000)})
        processes = [multiprocessing.Process(target=get_and_set, args=(shared, n // 2))
                     for _ in range(2)]
        start = time.perf_counter()
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return time.perf_counter() - start

if __name__ == '__main__':
    multiprocessing.set_start_method('fork')
    with multiprocessing.Pool(2) as pool:
        run_map(pool, 1000)
        for line in sys.stdin:
            what, n = line.split()
            run = globals()['run_' + what]
            start = time.perf_counter()
            inner = run(pool, int(n))
            print(inner or time.perf_counter() - start, flush=True)
)";

extern "C" char** environ;

struct Pipe {
  int ends[2];
  Pipe() {
    if (::pipe2(ends, O_CLOEXEC) != 0)
      throw std::system_error(errno, std::generic_category(), "pipe2");
  }
};

}  // namespace

void PythonPeer::start() {
  const Pipe commands;
  const Pipe answers;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, commands.ends[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, answers.ends[1], STDOUT_FILENO);
  // The system's own, which has the system's packages, before another in the path.
  const char* const program =
      ::access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : "python3";
  const char* arguments[] = {program, "-c", kScript, nullptr};
  const int error = ::posix_spawnp(&pid_, program, &actions, nullptr,
                                   const_cast<char* const*>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(commands.ends[0]);
  ::close(answers.ends[1]);
  commands_ = ::fdopen(commands.ends[1], "w");
  answers_ = ::fdopen(answers.ends[0], "r");
  if (error != 0) {
    pid_ = -1;
    throw std::runtime_error(
        fmt::format("cannot run python3: {}", std::generic_category().message(error)));
  }
}

double PythonPeer::seconds(const std::string& what, long n) {
  if (pid_ < 0 && commands_ == nullptr) start();
  if (pid_ < 0) throw std::runtime_error("there is no python3");
  fmt::print(commands_, "{} {}\n", what, n);
  std::fflush(commands_);
  double seconds = 0;
  if (std::fscanf(answers_, "%lf", &seconds) != 1)
    throw std::runtime_error(fmt::format("python3 did not measure '{} {}'", what, n));
  return seconds;
}

void PythonPeer::measure(benchmark::State& state, const std::string& what, long n, long items) {
  try {
    for (auto _ : state) state.SetIterationTime(seconds(what, n));
    state.SetItemsProcessed(state.iterations() * (items != 0 ? items : n));
  } catch (const std::exception& error) {
    state.SkipWithError(error.what());
  }
}

PythonPeer::~PythonPeer() {
  if (commands_ != nullptr) std::fclose(commands_);  // it ends when it has read everything
  if (answers_ != nullptr) std::fclose(answers_);
  if (pid_ > 0) {
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

}  // namespace bench
