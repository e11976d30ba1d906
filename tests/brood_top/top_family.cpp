// A family in which everybody is at something known: top_family METHOD. Says "ready", then does
// what the lines of its standard input say, and ends with it.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <random>
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

/// Another layout, or nonsense in the place of objects and records.
void damage(const std::string& how, unsigned seed) {
  brood::detail::Segment& segment = brood::detail::Member::current()->segment();
  if (how == "layout") {
    ++segment.header().layout_version;
    return;
  }
  std::minstd_rand random(seed);
  auto* const objects = reinterpret_cast<unsigned char*>(segment.objects());
  auto* const records = reinterpret_cast<unsigned char*>(segment.at(segment.header().records_at));
  auto* const data = reinterpret_cast<unsigned char*>(segment.at(segment.header().data_at));
  for (unsigned char* part : {objects, records, data}) {
    for (int i = 0; i != 4096; ++i) {
      if (random() % 8 == 0) part[i] = static_cast<unsigned char>(random());
    }
  }
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
  std::fflush(stdout);

  char line[64];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    const std::string command(line, std::strcspn(line, " \n"));
    damage(command, static_cast<unsigned>(std::atoi(line + command.size())));
    std::puts("done");
    std::fflush(stdout);
  }
  // What is damaged cannot be ended in order.
  ::kill(::getpid(), SIGKILL);
}
