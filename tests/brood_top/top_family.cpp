// A family in which everybody is at something known: top_family METHOD. Says "ready" and where its
// memory has what, and ends with its standard input.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <brood/barrier.hpp>
#include <brood/bind.hpp>
#include <brood/event.hpp>
#include <brood/lock.hpp>
#include <brood/log.hpp>
#include <brood/memory/member.hpp>
#include <brood/pool.hpp>
#include <brood/process.hpp>
#include <brood/queue.hpp>
#include <brood/runtime.hpp>
#include <brood/semaphore.hpp>

namespace {

void hold(brood::Lock lock, brood::Event has) {
  lock.lock();
  has.set();
  for (;;) ::pause();
}
void wait_for(brood::Lock lock) {
  lock.lock();
  for (;;) ::pause();
}
void consume(brood::Queue<int> queue) { static_cast<void>(queue.get()); }
void lock_both(brood::Lock first, brood::Lock second, brood::Barrier barrier) {
  first.lock();
  barrier.wait();
  second.lock();
}
void wait_for_event(brood::Event event) { event.wait(); }
int wait_in_the_second(brood::Event event, int item) {
  if (item == 1) event.wait();
  return item;
}

/// Where in the family's memory its version, objects, records and data begin.
void say_where() {
  const brood::detail::Segment& segment = brood::detail::Member::current()->segment();
  const brood::detail::SegmentHeader& header = segment.header();
  const auto at = [&](const auto* what) {
    return static_cast<unsigned long long>(segment.offset_of(what));
  };
  std::printf("%llu %llu %llu %llu\n", at(&header.layout_version), at(segment.objects()),
              static_cast<unsigned long long>(header.records_at),
              static_cast<unsigned long long>(header.data_at));
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  if (argc != 2) return 2;
  brood::set_start_method(brood::start_method_from(argv[1]));

  brood::Lock lock;
  brood::Lock left;
  brood::Lock right;
  brood::Event has;
  brood::Event never;
  brood::Barrier barrier(2);
  brood::Queue<int> full(10);
  brood::Queue<int> empty;
  brood::Semaphore permits(3);
  for (int i = 0; i != 5; ++i) full.put(i);
  permits.acquire();

  std::vector<brood::Process> processes;
  const auto start = [&](const char* name, auto&&... what) {
    processes.emplace_back(brood::ProcessOptions{.name = name, .daemon = true}, what...);
    processes.back().start();
  };
  start("holder", hold, lock, has);
  has.wait();
  start("waiter-0", wait_for, lock);
  start("waiter-1", wait_for, lock);
  start("consumer", consume, empty);
  start("left", lock_both, left, right, barrier);
  start("right", lock_both, right, left, barrier);
  brood::Pool pool({.workers = 2});
  static_cast<void>(pool.submit(wait_for_event, never));
  brood::Pool mappers({.workers = 1, .name = "mapper"});
  std::thread mapping([&] {
    mappers.with({.chunk = 1}).map(brood::bind(wait_in_the_second, never), std::vector{0, 1, 2});
  });
  std::thread thread([lock]() mutable { lock.lock(); });
  std::puts("ready");
  say_where();
  std::fflush(stdout);
  while (std::getchar() != EOF) continue;
  ::kill(::getpid(), SIGKILL);  // nobody ends by himself
}
