// Locks, semaphores, events, barriers and conditions beside what a user would take instead: the C
// library's, in shared memory, and Python's.
#include <benchmark/benchmark.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <new>

#include <brood/brood.hpp>
#include <brood/process/family.hpp>
#include <brood/sync/barrier_word.hpp>
#include <brood/sync/condition_word.hpp>
#include <brood/sync/event_word.hpp>
#include <brood/sync/lock_word.hpp>
#include <brood/sync/rlock_word.hpp>
#include <brood/sync/semaphore_word.hpp>
#include <brood/sync/shared_lock_word.hpp>

#include "support/python_peer.hpp"
#include "support/ratio.hpp"

namespace {

using namespace brood::detail;
using Clock = std::chrono::steady_clock;

class RobustMutex {
 public:
  RobustMutex() {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex_, &attributes);
    pthread_mutexattr_destroy(&attributes);
  }
  void lock() {
    if (pthread_mutex_lock(&mutex_) == EOWNERDEAD) pthread_mutex_consistent(&mutex_);
  }
  void unlock() { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_;
};

class RwLock {
 public:
  RwLock() {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_rwlock_init(&lock_, &attributes);
    pthread_rwlockattr_destroy(&attributes);
  }
  void lock() { pthread_rwlock_wrlock(&lock_); }
  void unlock() { pthread_rwlock_unlock(&lock_); }
  void lock_shared() { pthread_rwlock_rdlock(&lock_); }
  void unlock_shared() { pthread_rwlock_unlock(&lock_); }

 private:
  pthread_rwlock_t lock_;
};

// A killed waiter wedges it, so each measurement has a new one.
class PosixBarrier {
 public:
  void renew() {
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&barrier_, &attributes, 2);
    pthread_barrierattr_destroy(&attributes);
  }
  void wait() { pthread_barrier_wait(&barrier_); }

 private:
  pthread_barrier_t barrier_;
};

class OurBarrier {
 public:
  OurBarrier() { BarrierWord<>::format(bytes_, 2); }
  void renew() { word().reset(); }
  void wait() { word().arrive_and_wait(); }

 private:
  BarrierWord<>& word() { return *reinterpret_cast<BarrierWord<>*>(bytes_); }
  alignas(8) std::byte bytes_[BarrierWord<>::bytes_needed(2)];
};

// Two take turns under a lock, and each waits for its own.
class PosixTurns {
 public:
  void renew() {
    pthread_mutexattr_t mutex;
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&mutex_, &mutex);
    pthread_mutexattr_destroy(&mutex);
    pthread_condattr_t condition;
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&condition_, &condition);
    pthread_condattr_destroy(&condition);
    turn_ = 0;
  }
  void take(int me) {
    pthread_mutex_lock(&mutex_);
    while (turn_ != me) pthread_cond_wait(&condition_, &mutex_);
    turn_ = 1 - me;
    pthread_cond_signal(&condition_);
    pthread_mutex_unlock(&mutex_);
  }

 private:
  pthread_mutex_t mutex_;
  pthread_cond_t condition_;
  int turn_ = 0;
};

class OurTurns {
 public:
  void renew() { turn_ = 0; }
  void take(int me) {
    lock_.lock();
    condition_.wait_until(lock_, Deadline::never(), [&] { return turn_ == me; });
    turn_ = 1 - me;
    condition_.notify(lock_);
    lock_.unlock();
  }

 private:
  LockWord<> lock_;
  ConditionWord<> condition_;
  int turn_ = 0;
};

// Everything that two processes share here.
struct Shared {
  alignas(128) LockWord<> lock;
  alignas(128) RLockWord<> rlock;
  alignas(128) EventWord<> event;
  alignas(128) RobustMutex mutex;
  alignas(128) sem_t sem;
  alignas(128) std::byte semaphore[SemaphoreWord<>::bytes_needed(1)];
  alignas(128) SharedLockWord<> shared_lock;
  alignas(128) RwLock rwlock;
  alignas(128) RwLock rwlock_of_two;  // read only: a killed reader's share stays for ever
  alignas(128) OurBarrier barrier;
  alignas(128) PosixBarrier posix_barrier;
  alignas(128) OurTurns turns;
  alignas(128) PosixTurns posix_turns;
  alignas(128) std::atomic<std::uint32_t> stop;
  alignas(128) std::uint64_t guarded;
  alignas(128) std::atomic<std::int64_t> killed_at;
};

Shared* shared() {
  static Shared* all = [] {
    void* memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto* made = new (memory) Shared{};
    sem_init(&made->sem, 1, 1);
    SemaphoreWord<>::format(made->semaphore, 1, 1, DeadPermits::kReturn);
    return made;
  }();
  return all;
}

// A forked process of the family that runs `body`.
class Relative {
 public:
  template <class Body>
  explicit Relative(Body body)
      : family_(Family::require()),
        tag_(family_->registry().reserve(family_->self(), Role::process, "peer")),
        pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (family_->become(tag_)) body();
    _exit(0);
  }
  Relative(const Relative&) = delete;
  Relative& operator=(const Relative&) = delete;
  ~Relative() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    announce(family_->segment().header());
    family_->registry().note_ended(tag_, 0);
    family_->registry().free(tag_);
  }
  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] Tag tag() const { return tag_; }

 private:
  std::shared_ptr<Family> family_;
  Tag tag_;
  pid_t pid_;
};

template <class Lock>
void uncontended(benchmark::State& state, Lock& lock) {
  for (auto _ : state) {
    lock.lock();
    lock.unlock();
  }
}

template <class Lock>
void short_section(Lock& lock) {
  lock.lock();
  ++shared()->guarded;
  benchmark::ClobberMemory();
  lock.unlock();
}

// What this process gets done while the other one does the same.
template <class Lock>
void contended(benchmark::State& state, Lock& lock) {
  Relative other([&] {
    for (;;) short_section(lock);
  });
  for (auto _ : state) short_section(lock);
}

template <class Lock>
void look(Lock& lock) {
  lock.lock_shared();
  benchmark::DoNotOptimize(shared()->guarded);
  lock.unlock_shared();
}

template <class Lock>
void sharing(benchmark::State& state, Lock& lock) {
  for (auto _ : state) look(lock);
}
template <class Lock>
void sharing_of_two(benchmark::State& state, Lock& lock) {
  Relative other([&] {
    for (;;) look(lock);
  });
  for (auto _ : state) look(lock);
}

template <class Barrier>
void meeting(benchmark::State& state, Barrier& barrier) {
  barrier.renew();
  Relative other([&] {
    for (;;) barrier.wait();
  });
  for (auto _ : state) barrier.wait();
}
template <class Turns>
void taking_turns(benchmark::State& state, Turns& turns) {
  turns.renew();
  Relative other([&] {
    for (;;) turns.take(1);
  });
  for (auto _ : state) turns.take(0);
}

void semaphore_of_ours(benchmark::State& state) {
  auto& semaphore = *reinterpret_cast<SemaphoreWord<>*>(shared()->semaphore);
  for (auto _ : state) {
    semaphore.acquire();
    semaphore.release();
  }
}
void semaphore_of_posix(benchmark::State& state) {
  for (auto _ : state) {
    sem_wait(&shared()->sem);
    sem_post(&shared()->sem);
  }
}
void event_of_ours(benchmark::State& state) {
  for (auto _ : state) {
    shared()->event.set();
    shared()->event.clear();
  }
}

// From the kill of a holder until this process, which waits, has the lock.
void death_of_holder(benchmark::State& state) {
  LockWord<>& lock = shared()->lock;
  double worst = 0;
  for (auto _ : state) {
    Relative holder([&] {
      lock.lock();
      for (;;) pause();
    });
    while (lock.holder() != holder.tag()) usleep(20);
    Relative killer([&, pid = holder.pid()] {
      usleep(2'000);  // this process sleeps by then
      shared()->killed_at.store(Clock::now().time_since_epoch().count());
      kill(pid, SIGKILL);
      for (;;) pause();
    });
    lock.lock();
    const Clock::duration took =
        Clock::now().time_since_epoch() - Clock::duration(shared()->killed_at.load());
    if (!lock.owner_died()) state.SkipWithError("the holder was not killed");
    lock.unlock();
    const double seconds = std::chrono::duration<double>(took).count();
    worst = std::max(worst, seconds);
    state.SetIterationTime(seconds);
  }
  state.counters["worst_ms"] = worst * 1e3;
}

}  // namespace

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  bench::parse_quick(argc, argv);
  shared();
  bench::PythonPeer python;
  const auto add = [](const char* name, auto body) {
    return benchmark::RegisterBenchmark(name, body)->UseRealTime();
  };
  add("lock", [](benchmark::State& s) { uncontended(s, shared()->lock); });
  add("rlock", [](benchmark::State& s) { uncontended(s, shared()->rlock); });
  add("robust_mutex", [](benchmark::State& s) { uncontended(s, shared()->mutex); });
  add("lock_of_two", [](benchmark::State& s) { contended(s, shared()->lock); });
  add("robust_mutex_of_two", [](benchmark::State& s) { contended(s, shared()->mutex); });
  add("semaphore", semaphore_of_ours);
  add("sem_t", semaphore_of_posix);
  add("event", event_of_ours);
  add("shared_lock_shared", [](benchmark::State& s) { sharing(s, shared()->shared_lock); });
  add("rwlock_shared", [](benchmark::State& s) { sharing(s, shared()->rwlock); });
  add("shared_lock_shared_of_two",
      [](benchmark::State& s) { sharing_of_two(s, shared()->shared_lock); });
  add("rwlock_shared_of_two",
      [](benchmark::State& s) { sharing_of_two(s, shared()->rwlock_of_two); });
  add("shared_lock_alone", [](benchmark::State& s) { uncontended(s, shared()->shared_lock); });
  add("rwlock_alone", [](benchmark::State& s) { uncontended(s, shared()->rwlock); });
  add("barrier", [](benchmark::State& s) { meeting(s, shared()->barrier); });
  add("posix_barrier", [](benchmark::State& s) { meeting(s, shared()->posix_barrier); });
  add("condition", [](benchmark::State& s) { taking_turns(s, shared()->turns); });
  add("posix_condition", [](benchmark::State& s) { taking_turns(s, shared()->posix_turns); });
  const auto add_manual = [](const char* name, auto body) {
    return benchmark::RegisterBenchmark(name, body)->UseManualTime();
  };
  add_manual("python_rlock", [&](benchmark::State& s) {
    python.measure(s, "lock", bench::scaled(20'000));
  })->Iterations(5);
  add_manual("python_event", [&](benchmark::State& s) {
    python.measure(s, "event", bench::scaled(20'000));
  })->Iterations(3);
  add_manual("killed_holder", death_of_holder)
      ->Iterations(bench::scaled(100) > 1 ? 100 : 2)
      ->Unit(benchmark::kMillisecond);
  return bench::run(argc, argv,
                    {{.what = "lock and unlock, uncontended, beside a robust mutex",
                      .ours = "lock",
                      .beside = "robust_mutex",
                      .target = 0.8},
                     {.what = "  of two processes, short critical section",
                      .ours = "lock_of_two",
                      .beside = "robust_mutex_of_two",
                      .target = 1.0},
                     {.what = "semaphore, acquire and release, beside sem_t",
                      .ours = "semaphore",
                      .beside = "sem_t",
                      .target = 1.0},
                     {.what = "RLock beside Python's",
                      .ours = "rlock",
                      .beside = "python_rlock",
                      .target = 3,
                      .judged = bench::Judged::times_as_fast},
                     {.what = "Event, set and clear, beside Python's",
                      .ours = "event",
                      .beside = "python_event",
                      .target = 3,
                      .judged = bench::Judged::times_as_fast},
                     {.what = "SharedLock, shared, uncontended, beside pthread_rwlock_t",
                      .ours = "shared_lock_shared",
                      .beside = "rwlock_shared",
                      .judged = bench::Judged::for_information},
                     {.what = "  two processes share it",
                      .ours = "shared_lock_shared_of_two",
                      .beside = "rwlock_shared_of_two",
                      .judged = bench::Judged::for_information},
                     {.what = "  alone, uncontended",
                      .ours = "shared_lock_alone",
                      .beside = "rwlock_alone",
                      .judged = bench::Judged::for_information},
                     {.what = "Barrier of two processes beside pthread_barrier_t",
                      .ours = "barrier",
                      .beside = "posix_barrier",
                      .judged = bench::Judged::for_information},
                     {.what = "Condition, two take turns, beside pthread_cond_t",
                      .ours = "condition",
                      .beside = "posix_condition",
                      .judged = bench::Judged::for_information},
                     {.what = "a killed holder until the next has the lock, mean of 100",
                      .ours = "killed_holder",
                      .target = 1,
                      .judged = bench::Judged::ours_at_most,
                      .unit = "ms"},
                     {.what = "  the worst of 100",
                      .ours = "killed_holder",
                      .target = 10,
                      .judged = bench::Judged::ours_at_most,
                      .counter = "worst_ms",
                      .unit = "ms"}});
}
