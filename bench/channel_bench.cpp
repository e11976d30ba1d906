// Queues and pipes beside Python's, Boost.Interprocess's message_queue, ZeroMQ, a pipe, a socket
// pair, memcpy and a futex.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <brood/brood.hpp>
#include <chrono>
#include <csignal>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#if BROOD_BENCH_HAS_ZMQ
#include <zmq.h>
#endif

#include "support/futex_peer.hpp"
#include "support/python_peer.hpp"
#include "support/ratio.hpp"

namespace {

bench::PythonPeer python;

template <class T>
void put_all(brood::Queue<T> queue, T value, long n) {
  for (long i = 0; i != n; ++i) queue.put(value);
}
template <class T>
void get_all(brood::Queue<T> queue, long n) {
  for (long i = 0; i != n; ++i) benchmark::DoNotOptimize(queue.get());
}

// Seconds for n messages from `pairs` processes to as many, of which this is one.
template <class T>
void stream(benchmark::State& state, const T& value, int pairs, std::size_t maxsize) {
  const long n = bench::scaled(2'000'000) / pairs;
  for (auto _ : state) {
    brood::Queue<T> queue(maxsize);
    std::vector<brood::Process> others;
    for (int p = 0; p != pairs; ++p) others.emplace_back(put_all<T>, queue, value, n);
    for (int p = 1; p != pairs; ++p) others.emplace_back(get_all<T>, queue, n);
    for (brood::Process& other : others) other.start();
    benchmark::DoNotOptimize(queue.get());  // they have started
    const auto start = std::chrono::steady_clock::now();
    get_all<T>(queue, n - 1);
    for (brood::Process& other : others) other.join();
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  state.SetItemsProcessed(state.iterations() * n * pairs);
}

// Processes of `body` that end with it.
class Children {
 public:
  template <class Body>
  void add(const Body& body) {
    const pid_t child = ::fork();
    if (child == 0) {
      body();
      ::_exit(0);
    }
    pids_.push_back(child);
  }
  void join() {
    for (const pid_t pid : pids_) ::waitpid(pid, nullptr, 0);
    pids_.clear();
  }

 private:
  std::vector<pid_t> pids_;
};

// As stream(): `put_all` and `get_all`, for so many messages each, from `pairs` processes to as
// many.
template <class Put, class Get>
void stream_of_peer(benchmark::State& state, long n, int pairs, const Put& put_all,
                    const Get& get_all) {
  Children others;
  for (int p = 0; p != pairs; ++p) others.add([&] { put_all(n / pairs); });
  for (int p = 1; p != pairs; ++p) others.add([&] { get_all(n / pairs); });
  get_all(1);  // they have started
  const auto start = std::chrono::steady_clock::now();
  get_all(n / pairs - 1);
  others.join();
  state.SetIterationTime(
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

void boost_queue(benchmark::State& state, int pairs) {
  namespace ipc = boost::interprocess;
  const long n = bench::scaled(500'000);
  const std::string name = fmt::format("brood-bench-{}", ::getpid());
  for (auto _ : state) {
    ipc::message_queue::remove(name.c_str());
    ipc::message_queue queue(ipc::create_only, name.c_str(), 1000, sizeof(int));
    stream_of_peer(
        state, n, pairs,
        [&](long count) {
          const int value = 7;
          for (long i = 0; i != count; ++i) queue.send(&value, sizeof(value), 0);
        },
        [&](long count) {
          int value = 0;
          std::size_t size = 0;
          unsigned priority = 0;
          for (long i = 0; i != count; ++i) queue.receive(&value, sizeof(value), size, priority);
        });
    ipc::message_queue::remove(name.c_str());
  }
  state.SetItemsProcessed(state.iterations() * n);
}

void raw_pipe(benchmark::State& state, int pairs) {
  const long n = bench::scaled(500'000);
  for (auto _ : state) {
    int ends[2];
    if (::pipe(ends) != 0) return state.SkipWithError("pipe");
    stream_of_peer(
        state, n, pairs,
        [&](long count) {
          const int value = 7;
          for (long i = 0; i != count; ++i) {
            if (::write(ends[1], &value, sizeof(value)) != sizeof(value)) ::_exit(1);
          }
        },
        [&](long count) {
          int value = 0;
          for (long i = 0; i != count; ++i) {
            if (::read(ends[0], &value, sizeof(value)) != sizeof(value)) break;
          }
        });
    ::close(ends[0]);
    ::close(ends[1]);
  }
  state.SetItemsProcessed(state.iterations() * n);
}

#if BROOD_BENCH_HAS_ZMQ
// Messages of `size` bytes from a child that pushes to this process, which pulls.
void zeromq(benchmark::State& state, std::size_t size) {
  const long n = bench::scaled(500'000);
  const std::string address = fmt::format("ipc://@brood-bench-{}", ::getpid());
  for (auto _ : state) {
    const pid_t child = ::fork();  // before there is a context: its threads do not cross
    if (child == 0) {
      void* context = ::zmq_ctx_new();
      void* socket = ::zmq_socket(context, ZMQ_PUSH);
      const std::string message(size, 'x');
      if (::zmq_connect(socket, address.c_str()) != 0) ::_exit(1);
      for (long i = 0; i != n; ++i) {
        if (::zmq_send(socket, message.data(), size, 0) < 0) ::_exit(1);
      }
      for (;;) ::pause();  // until all has been received: closing could lose some
    }
    void* context = ::zmq_ctx_new();
    void* socket = ::zmq_socket(context, ZMQ_PULL);
    std::string message(size, ' ');
    const int milliseconds = 10'000;  // a row that fails must not hang
    ::zmq_setsockopt(socket, ZMQ_RCVTIMEO, &milliseconds, sizeof(milliseconds));
    bool good = ::zmq_bind(socket, address.c_str()) == 0 &&
                ::zmq_recv(socket, message.data(), size, 0) >= 0;  // it has started
    const auto start = std::chrono::steady_clock::now();
    for (long i = 1; good && i != n; ++i) {
      good = ::zmq_recv(socket, message.data(), size, 0) >= 0;
    }
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::zmq_close(socket);
    ::zmq_ctx_term(context);
    if (!good) return state.SkipWithError("ZeroMQ");
  }
  state.SetItemsProcessed(state.iterations() * n);
}
#endif

constexpr std::size_t kPing = 64;

void echo_bytes(brood::Connection connection) {
  std::vector<std::byte> message(kPing);
  try {
    for (;;) connection.send_bytes(std::span(message).first(connection.recv_bytes_into(message)));
  } catch (const brood::EndOfStream&) {
    return;
  }
}

void pipe_round_trip(benchmark::State& state) {
  brood::Pipe pipe;
  brood::Process peer(echo_bytes, std::move(pipe.second));
  peer.start();
  std::vector<std::byte> message(kPing);
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    pipe.first.send_bytes(message);
    benchmark::DoNotOptimize(pipe.first.recv_bytes_into(message));
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  state.SetItemsProcessed(state.iterations());
  pipe.first.close();
  peer.join();
}

void socketpair_round_trip(benchmark::State& state) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) return state.SkipWithError("socketpair");
  char message[kPing] = {};
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    while (::recv(ends[1], message, kPing, 0) > 0) {
      if (::send(ends[1], message, kPing, 0) < 0) break;
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    if (::send(ends[0], message, kPing, 0) < 0 || ::recv(ends[0], message, kPing, 0) <= 0) {
      state.SkipWithError("the peer is gone");
      break;
    }
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  state.SetItemsProcessed(state.iterations());
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
}

void echo(brood::Queue<int> pings, brood::Queue<int> pongs) {
  for (const int ping : pings) {
    ::usleep(50);  // the other end is asleep
    pongs.put(ping);
  }
}

// Both ends asleep when they are woken: what is above the pause.
void ping_pong(benchmark::State& state) {
  brood::Queue<int> pings;
  brood::Queue<int> pongs;
  brood::Process peer(echo, pings, pongs);
  peer.start();
  pings.put(0);
  benchmark::DoNotOptimize(pongs.get());
  for (auto _ : state) {
    ::usleep(50);
    const auto start = std::chrono::steady_clock::now();
    pings.put(1);
    benchmark::DoNotOptimize(pongs.get());
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  pings.close();
  peer.join();
}

// The same with a bare futex, and the same pause.
void futex_ping_pong(benchmark::State& state) {
  bench::FutexPeer peer;
  for (auto _ : state) {
    ::usleep(50);
    const auto start = std::chrono::steady_clock::now();
    peer.round_trip();
    ::usleep(50);
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}

constexpr std::size_t kLarge = std::size_t{64} << 20U;

void large_vector(benchmark::State& state) {
  const std::size_t bytes = bench::quick() ? kLarge / 64 : kLarge;
  brood::Queue<std::vector<char>> queue(2);
  const std::vector<char> value(bytes, 'x');
  // As beside, where the memory is there before: the first pass takes pages, which on a virtual
  // machine its host may have to find first.
  queue.put(value);
  benchmark::DoNotOptimize(queue.get());
  for (auto _ : state) {
    queue.put(value);
    benchmark::DoNotOptimize(queue.get());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<long>(bytes));
}

// Only its name goes through the queue.
void shared_array(benchmark::State& state, std::size_t bytes) {
  brood::Queue<brood::SharedArray<char>> queue(2);
  const brood::SharedArray<char> value(bytes);
  for (auto _ : state) {
    queue.put(value);
    benchmark::DoNotOptimize(queue.get());
  }
  state.SetItemsProcessed(state.iterations());
}

void copy_vector(benchmark::State& state) {
  const std::size_t bytes = bench::quick() ? kLarge / 64 : kLarge;
  const std::vector<char> from(bytes, 'x');
  std::vector<char> to(bytes);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), bytes);
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<long>(bytes));
}

// Two processes that keep both cores busy.
class Load {
 public:
  Load() {
    for (pid_t& pid : pids_) {
      pid = ::fork();
      if (pid != 0) continue;
      for (; ::getppid() != 1;) {
      }
      ::_exit(0);
    }
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;
  ~Load() {
    for (const pid_t pid : pids_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }

 private:
  pid_t pids_[2] = {};
};

template <class Body>
void add(const std::string& name, const Body& body, long iterations = 1) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->UseManualTime()
      ->Iterations(iterations)
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  bench::parse_quick(argc, argv);
  using State = benchmark::State;
  const std::string text(1000, 'x');
  const long few = bench::scaled(100'000);
  add("queue_int", [](State& s) { stream<int>(s, 7, 1, 0); });
  add("queue_int_bounded", [](State& s) { stream<int>(s, 7, 1, 1000); });
  add("queue_int_two_to_two", [](State& s) { stream<int>(s, 7, 2, 1000); });
  add("queue_text", [text](State& s) { stream<std::string>(s, text, 1, 1000); });
  add("queue_int_loaded", [](State& s) {
    const Load load;
    stream<int>(s, 7, 1, 1000);
  });
  add("python_queue", [few](State& s) { python.measure(s, "queue", few); });
  add("python_queue_two_to_two", [few](State& s) { python.measure(s, "queue_two", few); });
  add("python_queue_text", [few](State& s) { python.measure(s, "queue_text", few); });
  add("python_queue_loaded", [few](State& s) {
    const Load load;
    python.measure(s, "queue", few);
  });
  add("boost_message_queue", [](State& s) { boost_queue(s, 1); });
  add("boost_message_queue_two_to_two", [](State& s) { boost_queue(s, 2); });
  add("pipe", [](State& s) { raw_pipe(s, 1); });
  add("pipe_two_to_two", [](State& s) { raw_pipe(s, 2); });
#if BROOD_BENCH_HAS_ZMQ
  add("zeromq_int", [](State& s) { zeromq(s, sizeof(int)); });
  add("zeromq_text", [](State& s) { zeromq(s, 1000); });
#endif
  add("pipe_round_trip", pipe_round_trip, bench::scaled(50'000));
  add("socketpair_round_trip", socketpair_round_trip, bench::scaled(50'000));
  add("python_pipe", [](State& s) { python.measure(s, "pipe", bench::scaled(50'000)); });
  add("queue_ping_pong", ping_pong, bench::scaled(5'000));
  add("futex_ping_pong", futex_ping_pong, bench::scaled(5'000));
  benchmark::RegisterBenchmark("queue_64_mib", large_vector)->UseRealTime();
  benchmark::RegisterBenchmark("shared_array_64_mib", [](State& s) {
    shared_array(s, kLarge);
  })->UseRealTime();
  benchmark::RegisterBenchmark("shared_array_64_kib", [](State& s) {
    shared_array(s, 1U << 16U);
  })->UseRealTime();
  benchmark::RegisterBenchmark("memcpy_64_mib", copy_vector)->UseRealTime();

  using bench::Judged;
  const auto faster = [](std::string what, std::string ours, std::string beside, double target) {
    return bench::Row{.what = std::move(what),
                      .ours = std::move(ours),
                      .beside = std::move(beside),
                      .target = target,
                      .judged = Judged::times_as_fast};
  };
  return bench::run(argc, argv, {
    faster("Queue<int> 1 to 1, beside Python's", "queue_int", "python_queue", 50),
        faster("Queue<int> 1 to 1, beside Boost's", "queue_int_bounded", "boost_message_queue", 5),
        faster("Queue<int> 1 to 1, beside a pipe", "queue_int_bounded", "pipe", 10),
        faster("Queue<int> 2 to 2, beside Python's", "queue_int_two_to_two",
               "python_queue_two_to_two", 50),
        faster("Queue of 1 KB texts, beside Python's", "queue_text", "python_queue_text", 20),
        faster("Queue<int> 1 to 1, cores busy, beside Python's", "queue_int_loaded",
               "python_queue_loaded", 20),
#if BROOD_BENCH_HAS_ZMQ
        faster("Queue<int> 1 to 1, beside ZeroMQ", "queue_int_bounded", "zeromq_int", 3),
        faster("Queue<int> 2 to 2, beside ZeroMQ 1 to 1", "queue_int_two_to_two", "zeromq_int", 3),
        faster("Queue of 1 KB texts, beside ZeroMQ", "queue_text", "zeromq_text", 2),
#endif
        faster("Queue<int> 2 to 2, beside a pipe", "queue_int_two_to_two", "pipe_two_to_two", 10),
        faster("Queue<int> 2 to 2, beside Boost's", "queue_int_two_to_two",
               "boost_message_queue_two_to_two", 5),
        {.what = "  beside Boost's 1 to 1",
         .ours = "queue_int_two_to_two",
         .beside = "boost_message_queue",
         .judged = Judged::for_information},
        faster("Pipe, 64 bytes there and back, beside Python's", "pipe_round_trip", "python_pipe",
               5),
        {.what = "Pipe, 64 bytes there and back, beside a socket pair",
         .ours = "pipe_round_trip",
         .beside = "socketpair_round_trip",
         .target = 1.2,
         .judged = Judged::at_most},
        {.what = "64 MiB SharedArray through a Queue, beside one of 64 KiB",
         .ours = "shared_array_64_mib",
         .beside = "shared_array_64_kib",
         .target = 1.5,
         .judged = Judged::at_most},
        {.what = "64 MiB vector through a Queue, beside memcpy",
         .ours = "queue_64_mib",
         .beside = "memcpy_64_mib",
         .target = 2.5,
         .judged = Judged::at_most},
    {
      .what = "Queue ping-pong, both ends asleep, beside a futex (50 us pause each)",
      .ours = "queue_ping_pong", .beside = "futex_ping_pong", .target = 1.3,
      .judged = Judged::at_most
    }
  });
}
