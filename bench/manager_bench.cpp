// Calls of an object in a manager's server: on one machine beside a futex ping-pong, over an
// encrypted Unix socket beside Redis, which does not encrypt.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <brood/brood.hpp>
#include <string>
#include <vector>

#if BROOD_BENCH_HAS_HIREDIS
#include <hiredis/hiredis.h>
#endif

#include "support/futex_peer.hpp"
#include "support/ratio.hpp"
#include "support/redis_peer.hpp"

namespace {

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
  return bench::run(argc, argv,
                    {{.what = "a method call through the server, beside a futex ping-pong",
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
