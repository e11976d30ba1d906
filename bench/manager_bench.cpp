// Containers in shared memory beside Python's Manager().dict() and beside a std::unordered_map that
// threads share; calls of an object in a manager's server: on one machine beside a futex ping-pong,
// over an encrypted Unix socket beside Redis, which does not encrypt.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <brood/brood.hpp>
#include <chrono>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#if BROOD_BENCH_HAS_HIREDIS
#include <hiredis/hiredis.h>
#endif

#include "support/futex_peer.hpp"
#include "support/python_peer.hpp"
#include "support/ratio.hpp"
#include "support/redis_peer.hpp"

namespace {

// A thousand numbers, of which one after the other is read and written: what two calls cost.
constexpr int kKeys = 1000;

using Dict = brood::Dict<int, long>;

class LockedMap {
 public:
  long get(int key) const {
    const std::scoped_lock lock(mutex_);
    return map_.at(key);
  }
  void set(int key, long value) {
    const std::scoped_lock lock(mutex_);
    map_[key] = value;
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<int, long> map_;
};

template <class Map>
void fill(Map& map) {
  for (int i = 0; i < kKeys; ++i) map.set(i, 0);
}
void fill(const Dict& dict) {
  for (int i = 0; i < kKeys; ++i) dict.insert_or_assign(i, 0);
}

void get_and_set(LockedMap& map, long n) {
  for (long i = 0; i < n; ++i) {
    const int key = static_cast<int>(i % kKeys);
    map.set(key, map.get(key) + 1);
  }
}
void get_and_set(const Dict& dict, long n) {
  for (long i = 0; i < n; ++i) {
    const int key = static_cast<int>(i % kKeys);
    dict.insert_or_assign(key, dict.at(key) + 1);
  }
}

constexpr long kBatch = 10'000;

void dict_alone(benchmark::State& state) {
  const Dict dict;
  fill(dict);
  for (auto _ : state) get_and_set(dict, kBatch);
  state.SetItemsProcessed(state.iterations() * kBatch);
}
void map_alone(benchmark::State& state) {
  LockedMap map;
  fill(map);
  for (auto _ : state) get_and_set(map, kBatch);
  state.SetItemsProcessed(state.iterations() * kBatch);
}

// Two do n each; from when both began until both have ended.
void count_in(Dict dict, brood::Barrier barrier, long n) {
  barrier.wait();
  get_and_set(dict, n);
}
void dict_of_two(benchmark::State& state, long n) {
  for (auto _ : state) {
    const Dict dict;
    fill(dict);
    brood::Barrier barrier(2);
    brood::Process other(count_in, dict, barrier, n);
    other.start();
    barrier.wait();
    const auto start = std::chrono::steady_clock::now();
    get_and_set(dict, n);
    other.join();
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  state.SetItemsProcessed(state.iterations() * 2 * n);
}
void map_of_two(benchmark::State& state, long n) {
  for (auto _ : state) {
    LockedMap map;
    fill(map);
    std::atomic<int> ready = 0;
    std::thread other([&] {
      for (++ready; ready != 2;) {
      }
      get_and_set(map, n);
    });
    for (++ready; ready != 2;) {
    }
    const auto start = std::chrono::steady_clock::now();
    get_and_set(map, n);
    other.join();
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  state.SetItemsProcessed(state.iterations() * 2 * n);
}

// What a million small entries take, in bytes for each.
void dict_memory(benchmark::State& state, int entries) {
  for (auto _ : state) {
    const std::size_t before = brood::shared_memory_info().shared_objects;
    const brood::Dict<int, int> dict;
    for (int i = 0; i < entries; ++i) dict.insert_or_assign(i, i);
    state.counters["bytes"] =
        static_cast<double>(brood::shared_memory_info().shared_objects - before) / entries;
  }
}
void map_memory(benchmark::State& state, int entries) {
  for (auto _ : state) {
    const auto in_use = [] {
      const struct mallinfo2 info = ::mallinfo2();
      return info.uordblks + info.hblkhd;
    };
    const std::size_t before = in_use();
    std::unordered_map<int, int> map;
    for (int i = 0; i < entries; ++i) map.insert_or_assign(i, i);
    state.counters["bytes"] = static_cast<double>(in_use() - before) / entries;
  }
}

class Number {
 public:
  int add(int n) { return sum_ += n; }
  std::string text() const { return "12345678"; }

 private:
  int sum_ = 0;
};

void call(benchmark::State& state, const brood::Proxy<Number>& number) {
  for (auto _ : state) benchmark::DoNotOptimize(number.call<&Number::add>(1));
}

// Both ends are asleep when the next one begins.
void call_after_a_pause(benchmark::State& state, const brood::Proxy<Number>& number) {
  for (auto _ : state) {
    ::usleep(50);
    const auto start = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(number.call<&Number::add>(1));
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}
void futex_after_a_pause(benchmark::State& state, bench::FutexPeer& peer) {
  for (auto _ : state) {
    ::usleep(50);
    const auto start = std::chrono::steady_clock::now();
    peer.round_trip();
    state.SetIterationTime(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}

void futex_ping_pong(benchmark::State& state, bench::FutexPeer& peer) {
  for (auto _ : state) peer.round_trip();
}

void batch_of_100(benchmark::State& state, const brood::Proxy<Number>& number) {
  for (auto _ : state) {
    brood::CallBatch batch;
    for (int i = 0; i < 100; ++i) batch.call<&Number::add>(number, 1);
    batch.run();
  }
  state.SetItemsProcessed(state.iterations() * 100);
}

void remote_call(benchmark::State& state, const brood::RemoteProxy<Number>& number) {
  for (auto _ : state) benchmark::DoNotOptimize(number.call<&Number::text>());
}

#if BROOD_BENCH_HAS_HIREDIS
void redis_get(benchmark::State& state, const bench::RedisPeer& redis) {
  redisContext* const context = ::redisConnectUnix(redis.socket().c_str());
  if (context == nullptr || context->err != 0) return state.SkipWithError("redis");
  ::freeReplyObject(::redisCommand(context, "SET key 12345678"));
  for (auto _ : state) ::freeReplyObject(::redisCommand(context, "GET key"));
  ::redisFree(context);
}
#endif

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  bench::parse_quick(argc, argv);
  bench::PythonPeer python;
  bench::FutexPeer peer;
  bench::RedisPeer redis;
  brood::Manager manager;
  const auto number = manager.make<Number>();
  const std::string key = "the same at both ends";
  const brood::Address address =
      manager.serve(brood::Address::abstract(fmt::format("brood-bench-{}", ::getpid())), key);
  const auto remote = brood::Manager::connect(address, key).make<Number>();
  const auto add = [](const char* name, auto body) {
    return benchmark::RegisterBenchmark(name, body)->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  const auto timed = [](const char* name, auto body) {
    return benchmark::RegisterBenchmark(name, body)->UseManualTime()->Iterations(1);
  };
  const long many = bench::scaled(1'000'000);
  const long few = bench::scaled(10'000);
  const auto entries = static_cast<int>(bench::scaled(1'000'000));
  add("dict", dict_alone);
  add("map", map_alone);
  timed("dict_of_two", [&](benchmark::State& state) { dict_of_two(state, many); });
  timed("map_of_two", [&](benchmark::State& state) { map_of_two(state, many); });
  timed("python_dict", [&](benchmark::State& state) { python.measure(state, "dict", few); });
  timed("python_dict_of_two",
        [&](benchmark::State& state) { python.measure(state, "dict_two", few); });
  benchmark::RegisterBenchmark("dict_memory", [&](benchmark::State& state) {
    dict_memory(state, entries);
  })->Iterations(1);
  benchmark::RegisterBenchmark("map_memory", [&](benchmark::State& state) {
    map_memory(state, entries);
  })->Iterations(1);
  add("call", [&](benchmark::State& state) { call(state, number); });
  add("futex_ping_pong", [&](benchmark::State& state) { futex_ping_pong(state, peer); });
  benchmark::RegisterBenchmark("call_asleep",
                               [&](benchmark::State& state) { call_after_a_pause(state, number); })
      ->UseManualTime()
      ->Iterations(bench::scaled(2000));
  benchmark::RegisterBenchmark("futex_asleep",
                               [&](benchmark::State& state) { futex_after_a_pause(state, peer); })
      ->UseManualTime()
      ->Iterations(bench::scaled(2000));
  add("batch_of_100", [&](benchmark::State& state) { batch_of_100(state, number); });
  add("remote_call", [&](benchmark::State& state) { remote_call(state, remote); });
  using bench::Judged;
  bench::Row beside_redis{.what = "the same over a Unix socket, encrypted, beside Redis GET",
                          .ours = "remote_call",
                          .beside = "redis_get",
                          .target = 1.2};
#if BROOD_BENCH_HAS_HIREDIS
  if (redis.start()) {
    add("redis_get", [&](benchmark::State& state) { redis_get(state, redis); });
  } else {
    beside_redis.what += " (" + redis.why_not() + ")";
    beside_redis.judged = Judged::for_information;
  }
#else
  beside_redis.what += " (built without hiredis)";
  beside_redis.judged = Judged::for_information;
#endif
  return bench::run(
      argc, argv,
      {{.what = "Dict, get and set, beside Python's Manager().dict()",
        .ours = "dict",
        .beside = "python_dict",
        .target = 100,
        .judged = Judged::times_as_fast},
       {.what = "  of two processes",
        .ours = "dict_of_two",
        .beside = "python_dict_of_two",
        .target = 100,
        .judged = Judged::times_as_fast},
       {.what = "Dict, get and set, beside an unordered_map and a mutex",
        .ours = "dict",
        .beside = "map",
        .target = 5},
       {.what = "  of two processes, beside two threads",
        .ours = "dict_of_two",
        .beside = "map_of_two",
        .target = 5},
       {.what = fmt::format("memory of {} small entries, beside unordered_map", entries),
        .ours = "dict_memory",
        .beside = "map_memory",
        .target = 2,
        .counter = "bytes",
        .unit = "B"},
       {.what = "a method call through the server, beside a futex ping-pong",
        .ours = "call",
        .beside = "futex_ping_pong",
        .target = 1.5},
       {.what = "  the same, both ends asleep (50 us pause each)",
        .ours = "call_asleep",
        .beside = "futex_asleep",
        .judged = Judged::for_information},
       {.what = "  in a batch of 100, per call, beside one call",
        .ours = "batch_of_100",
        .beside = "call",
        .judged = Judged::for_information},
       beside_redis});
}
