// Objects in a manager's server, under every start method. Names in comments are those of Python's
// tests from which a behaviour comes.
// Not for ThreadSanitizer: processes.
#include <gtest/gtest.h>

#include <brood/brood.hpp>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::manager_test {
namespace {

using namespace std::chrono_literals;
using testing::eventually;

class Managers : public testing::EveryStartMethod {
 protected:
  testing::TempDir dir_;
};
BROOD_UNDER_EVERY_START_METHOD(Managers);

struct OutOfMoney : std::runtime_error {
  using std::runtime_error::runtime_error;
};
BROOD_REGISTER_EXCEPTION(OutOfMoney);

class Base {
 public:
  int inherited() const { return 17; }
};

class Account : public Base {
 public:
  explicit Account(long balance) : balance_(balance) {}
  Account(std::string owner, long balance) : owner_(std::move(owner)), balance_(balance) {}
  long deposit(long amount) { return balance_ += amount; }
  long balance() const noexcept { return balance_; }
  void withdraw(long amount) {
    if (amount > balance_) throw OutOfMoney("only " + std::to_string(balance_) + " left");
    balance_ -= amount;
  }
  const std::string& owner() const { return owner_; }
  std::string describe(int n) const { return "int " + std::to_string(n); }
  std::string describe(const std::string& s) const { return "text " + s; }
  int process() const { return ::getpid(); }
  static long doubled(const Account& account) { return 2 * account.balance_; }

  long limit = 5;

 private:
  std::string owner_;
  long balance_;
};

long add_up(Account& account, long a, long b) { return account.deposit(a + b); }

TEST_P(Managers, AMethodRunsInTheServerAndItsResultComesBack) {
  Manager manager;
  const Proxy<Account> account = manager.make<Account>(100);
  EXPECT_EQ(account.call<&Account::deposit>(5), 105);
  EXPECT_EQ(account.call<&Account::balance>(), 105);
  account.call<&Account::withdraw>(5);
  EXPECT_EQ(account.call<&Account::balance>(), 100);
  EXPECT_EQ(account.call<&Account::process>(), manager.pid());
  EXPECT_NE(account.call<&Account::process>(), ::getpid());
}

TEST_P(Managers, AnythingThatCanBeCalledOnTheObjectIsAMethod) {
  Manager manager({.name = "bank"});
  EXPECT_EQ(manager.name(), "bank");
  const auto account = manager.make<Account>("Ada", 100);
  EXPECT_EQ(account.call<&Account::owner>(), "Ada");  // a reference: a copy
  EXPECT_EQ(account.call<&Base::inherited>(), 17);
  EXPECT_EQ(account.call<static_cast<std::string (Account::*)(int) const>(&Account::describe)>(3),
            "int 3");
  EXPECT_EQ(account.call<static_cast<std::string (Account::*)(const std::string&) const>(
                &Account::describe)>("x"),
            "text x");
  EXPECT_EQ(account.call<&Account::doubled>(), 200);
  EXPECT_EQ(account.call<&Account::limit>(), 5);
  EXPECT_EQ(account.call<&add_up>(1, 2), 103);
  EXPECT_EQ(account.call<[](Account& a, long n) { return a.deposit(n); }>(7), 110);
  EXPECT_EQ(account.apply(add_up, 1, 2), 113);
  EXPECT_EQ(account.apply(&Account::balance), 113);
  EXPECT_EQ(account.apply([](const Account& a) { return a.balance(); }), 113);
}

// _TestMyManager.test_mymanager: errors come back as themselves
TEST_P(Managers, AnExceptionComesBackAsItself) {
  Manager manager({.name = "bank"});
  const auto account = manager.make<Account>(10);
  try {
    account.call<&Account::withdraw>(11);
    FAIL() << "nothing was thrown";
  } catch (const OutOfMoney& e) {
    EXPECT_STREQ(e.what(), "only 10 left");
    const RemoteTrace* trace = remote_trace(e);
    ASSERT_NE(trace, nullptr);
    EXPECT_NE(trace->failure().process.find("bank (pid "), std::string::npos);
  }
  EXPECT_EQ(account.call<&Account::balance>(), 10);
  struct Picky {
    explicit Picky(int n) {
      if (n < 0) throw std::invalid_argument("negative");
    }
  };
  EXPECT_THROW(static_cast<void>(manager.make<Picky>(-1)), std::invalid_argument);
  EXPECT_EQ(manager.object_count(), 1U);
}

TEST_P(Managers, LargeArgumentsAndResultsCross) {
  struct Store {
    std::vector<std::string> all;
    std::size_t put(std::vector<std::string> more) {
      all = std::move(more);
      return all.size();
    }
    std::vector<std::string> get() const { return all; }
    void fail() const { throw std::runtime_error(std::string(10'000, 'x')); }
  };
  Manager manager;
  const auto store = manager.make<Store>();
  const std::vector<std::string> texts(1000, std::string(500, 'a'));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(store.call<&Store::put>(texts), texts.size());
    EXPECT_EQ(store.call<&Store::get>(), texts);
  }
  EXPECT_EQ(store.call<&Store::put>(std::vector<std::string>{}), 0U);
  EXPECT_TRUE(store.call<&Store::get>().empty());
  try {
    store.call<&Store::fail>();
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& e) {
    EXPECT_EQ(std::string(e.what()).size(), 10'000U);
  }
}

void deposit_often(Proxy<Account> account, int times) {
  for (int i = 0; i < times; ++i) account.call<&Account::deposit>(1);
}

TEST_P(Managers, ManyProcessesUseOneObjectAndNothingIsLost) {
  Manager manager;
  const auto account = manager.make<Account>(0);
  std::vector<Process> all;
  for (int p = 0; p < 3; ++p) all.emplace_back(deposit_often, account, 500);
  for (Process& p : all) p.start();
  deposit_often(account, 500);
  for (Process& p : all) p.join();
  for (Process& p : all) EXPECT_EQ(p.exitcode(), 0);
  EXPECT_EQ(account.call<&Account::balance>(), 2000);
}

struct Carrier {
  Proxy<Account> account;
  std::vector<Proxy<Account>> more;
};

TEST_P(Managers, ProxiesTravelAnywhere) {
  Manager manager;
  const auto account = manager.make<Account>(0);
  Queue<Carrier> queue;
  Process child(
      [](Queue<Carrier> carriers) {
        const Carrier carrier = carriers.get();
        carrier.account.call<&Account::deposit>(1);
        for (const auto& one : carrier.more) one.call<&Account::deposit>(10);
      },
      queue);
  child.start();
  queue.put(Carrier{.account = account, .more = {account, manager.make<Account>(5), account}});
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
  EXPECT_EQ(account.call<&Account::balance>(), 21);
  {
    Pool pool({.workers = 1});
    const auto deposit = [](Proxy<Account> a) { return a.call<&Account::deposit>(100); };
    EXPECT_EQ(pool.apply(deposit, account), 121);
    const auto back = pool.submit([](Proxy<Account> a) { return a; }, account).get();
    EXPECT_TRUE(back == account);
    EXPECT_EQ(back.call<&Account::balance>(), 121);
  }
  // The message that was never received, and the one that was, hold nothing any more.
  EXPECT_TRUE(eventually([&] { return manager.object_count() == 1; }));
}

// Says in a file that it was destroyed.
class Witness {
 public:
  explicit Witness(std::string path) : path_(std::move(path)) {}
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;
  ~Witness() { testing::give_sign(path_); }
  int number() const { return 7; }

 private:
  std::string path_;
};

TEST_P(Managers, AnObjectLivesUntilItsLastProxyIsGone) {
  Manager manager;
  const std::string gone = dir_.file("gone");
  {
    const auto first = manager.make<Witness>(gone);
    Proxy<Witness> second = first;
    { const Proxy<Witness> third = std::move(second); }
    EXPECT_EQ(first.call<&Witness::number>(), 7);
    EXPECT_EQ(manager.object_count(), 1U);
    EXPECT_FALSE(testing::sign_given(gone));
  }
  EXPECT_TRUE(eventually([&] { return testing::sign_given(gone); }));
  EXPECT_EQ(manager.object_count(), 0U);
}

TEST_P(Managers, AnObjectIsDestroyedWhenItsLastHolderIsKilled) {
  Manager manager;
  const std::string gone = dir_.file("gone");
  const std::string there = dir_.file("there");
  Process child(
      [](Proxy<Witness> witness, std::string sign) {
        static_cast<void>(witness.call<&Witness::number>());
        testing::give_sign(sign);
        for (;;) ::pause();
      },
      manager.make<Witness>(gone), there);
  child.start();
  testing::await_sign(there);
  EXPECT_FALSE(testing::sign_given(gone));
  child.kill();
  child.join();
  EXPECT_TRUE(eventually([&] { return testing::sign_given(gone); }));
}

TEST_P(Managers, ObjectsAreDestroyedWhenTheManagerIsShutDown) {
  const std::string gone = dir_.file("gone");
  Manager manager;
  const auto witness = manager.make<Witness>(gone);
  manager.shutdown();
  EXPECT_TRUE(testing::sign_given(gone));
  EXPECT_FALSE(manager.is_alive());
  EXPECT_THROW(static_cast<void>(witness.call<&Witness::number>()), ManagerClosed);
  EXPECT_THROW(static_cast<void>(manager.make<Witness>(gone)), ManagerClosed);
  EXPECT_THROW(static_cast<void>(witness.async<&Witness::number>()), ManagerClosed);
  manager.shutdown();  // once more is harmless
}

class Node {
 public:
  explicit Node(int n) : n_(n) {}
  int number() const { return n_; }
  Proxy<Node> child(int n) { return Manager::make_here<Node>(n); }
  void keep(Proxy<Node> other) { kept_.push_back(std::move(other)); }
  int sum() const {
    int sum = n_;
    for (const auto& one : kept_) sum += one.call<&Node::sum>();
    return sum;
  }
  std::vector<int> all() const { return {n_, n_ + 1}; }
  int through(Proxy<Node> self) const { return self.call<&Node::number>(); }

 private:
  int n_;
  std::vector<Proxy<Node>> kept_;
};

// _TestMyManager.test_mymanager: methods that return proxies
TEST_P(Managers, MethodsReturnProxies) {
  Manager manager;
  const auto root = manager.make<Node>(1);
  const Proxy<Node> child = root.call<&Node::child>(20);
  EXPECT_EQ(child.call<&Node::number>(), 20);
  const Proxy<std::vector<int>> list = root.call_for_proxy<&Node::all>();
  EXPECT_EQ(list.call<&std::vector<int>::size>(), 2U);
  EXPECT_EQ((list.call<[](const std::vector<int>& v) { return v; }>()), (std::vector<int>{1, 2}));
  EXPECT_THROW(static_cast<void>(Manager::make_here<Node>(1)), StateError);
}

// Nested proxies, and calls from within the server: an object may even call itself.
TEST_P(Managers, ObjectsUseEachOther) {
  Manager manager;
  const auto root = manager.make<Node>(1);
  {
    const auto middle = manager.make<Node>(10);
    middle.call<&Node::keep>(manager.make<Node>(100));
    root.call<&Node::keep>(middle);
    root.call<&Node::keep>(manager.make<Node>(1000));
  }
  EXPECT_EQ(manager.object_count(), 4U);
  EXPECT_EQ(root.call<&Node::sum>(), 1111);
  EXPECT_EQ(root.call<&Node::through>(root), 1);
}

class Gate {
 public:
  void pass(std::string busy, std::string open) {
    testing::give_sign(busy);
    testing::await_sign(open);
    ++passed_;
  }
  int passed() const { return passed_; }

 private:
  int passed_ = 0;
};

class Meeting {
 public:
  /// Returns when as many are in it at once.
  void meet(int parties) {
    std::unique_lock lock(mutex_);
    if (++here_ == parties) met_.notify_all();
    met_.wait(lock, [&] { return here_ >= parties; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable met_;
  int here_ = 0;
};

}  // namespace
}  // namespace brood::manager_test

template <>
inline constexpr bool brood::concurrent_calls<brood::manager_test::Meeting> = true;

namespace brood::manager_test {
namespace {

TEST_P(Managers, CallsOfOneObjectWaitForEachOtherAndOfOthersDoNot) {
  Manager manager;
  const auto gate = manager.make<Gate>();
  const auto account = manager.make<Account>(0);
  const std::string busy = dir_.file("busy");
  const std::string open = dir_.file("open");
  Future<void> passing = gate.async<&Gate::pass>(busy, open);
  testing::await_sign(busy);
  EXPECT_EQ(account.call<&Account::deposit>(1), 1);
  EXPECT_THROW(static_cast<void>(gate.call_within<&Gate::passed>(20ms)), TimeoutError);
  EXPECT_FALSE(passing.ready());
  testing::give_sign(open);
  passing.get();
  EXPECT_EQ(gate.call<&Gate::passed>(), 1);
}

TEST_P(Managers, AClassMaySayThatItsCallsNeedNotWaitForEachOther) {
  Manager manager;
  const auto meeting = manager.make<Meeting>();
  std::vector<Future<void>> all;
  for (int i = 0; i < 3; ++i) all.push_back(meeting.async<&Meeting::meet>(4));
  meeting.call<&Meeting::meet>(4);
  for (Future<void>& one : all) one.get();
}

TEST_P(Managers, ACallThatWasGivenUpInTimeIsNotBegun) {
  Manager manager;
  const auto gate = manager.make<Gate>();
  const std::string busy = dir_.file("busy");
  const std::string open = dir_.file("open");
  Future<void> passing = gate.async<&Gate::pass>(busy, open);
  testing::await_sign(busy);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THROW((gate.call_within<&Gate::pass>(5ms, dir_.file("never"), open)), TimeoutError);
  }
  testing::give_sign(open);
  passing.get();
  EXPECT_EQ(gate.call<&Gate::passed>(), 1);
  EXPECT_FALSE(testing::sign_given(dir_.file("never")));
}

TEST_P(Managers, FuturesAreWaitedForAndMayBeDropped) {
  Manager manager;
  const auto account = manager.make<Account>(0);
  std::vector<Future<long>> all;
  for (int i = 1; i <= 20; ++i) all.push_back(account.async<&Account::deposit>(i));
  std::vector<long> seen;
  for (Future<long>& one : all) seen.push_back(one.get());
  EXPECT_EQ(account.call<&Account::balance>(), 210);
  EXPECT_FALSE(all.front().valid());
  Future<void> bad = account.async<&Account::withdraw>(1000);
  EXPECT_THROW(bad.get(), OutOfMoney);
  // Those that nobody waits for are done all the same.
  for (int i = 0; i < 50; ++i) static_cast<void>(account.async<&Account::deposit>(1));
  EXPECT_TRUE(eventually([&] { return account.call<&Account::balance>() == 260; }));
  Queue<int> queue;
  Future<long> one = account.async<&Account::deposit>(1);
  EXPECT_EQ(wait({one, queue}), (std::vector<std::size_t>{0}));
  EXPECT_EQ(one.get(), 261);
}

TEST_P(Managers, ABatchIsOneRoundTripInOrder) {
  Manager manager;
  const auto account = manager.make<Account>(0);
  const auto other = manager.make<Account>(1000);
  CallBatch batch;
  std::vector<BatchResult<long>> all;
  for (int i = 1; i <= 100; ++i) all.push_back(batch.call<&Account::deposit>(account, i));
  const auto fails = batch.call<&Account::withdraw>(account, 1'000'000);
  const auto balance = batch.call<&Account::balance>(other);
  const auto made =
      batch.call<[](const Account&) { return Manager::make_here<Account>(9); }>(other);
  EXPECT_THROW(static_cast<void>(balance.get()), StateError);
  batch.run();
  long sum = 0;
  for (int i = 1; i <= 100; ++i) EXPECT_EQ(all[static_cast<std::size_t>(i - 1)].get(), sum += i);
  EXPECT_THROW(fails.get(), OutOfMoney);
  EXPECT_EQ(balance.get(), 1000);
  EXPECT_EQ(made.get().call<&Account::balance>(), 9);
  EXPECT_THROW(batch.run(), StateError);
  Manager second;
  CallBatch mixed;
  mixed.call<&Account::balance>(account);
  EXPECT_THROW(mixed.call<&Account::balance>(second.make<Account>(1)), ArgumentError);
  CallBatch nothing;
  nothing.run();
}

// _TestMyManager.test_mymanager_context, _TestManagerRestart.test_rapid_restart
TEST_P(Managers, ManagersComeAndGo) {
  for (int i = 0; i < 5; ++i) {
    Manager manager;
    EXPECT_EQ(manager.make<Account>(i).call<&Account::balance>(), i);
  }
  Manager first;
  const auto account = first.make<Account>(1);
  Manager second = std::move(first);
  EXPECT_EQ(account.call<&Account::balance>(), 1);
  EXPECT_THROW(static_cast<void>(first.pid()), StateError);
  second = Manager();
  EXPECT_THROW(static_cast<void>(account.call<&Account::balance>()), ManagerClosed);
}

TEST_P(Managers, ObjectsAreFoundByName) {
  Manager manager;
  const std::string gone = dir_.file("gone");
  manager.publish("witness", manager.make<Witness>(gone));
  EXPECT_EQ(manager.get<Witness>("witness").call<&Witness::number>(), 7);
  EXPECT_THROW(static_cast<void>(manager.get<Witness>("other")), ArgumentError);
  EXPECT_THROW(static_cast<void>(manager.get<Account>("witness")), TypeMismatch);
  EXPECT_THROW(manager.unpublish("other"), ArgumentError);
  Manager second;
  EXPECT_THROW(second.publish("w", manager.get<Witness>("witness")), ArgumentError);
  EXPECT_EQ(manager.object_count(), 1U);
  manager.unpublish("witness");
  EXPECT_TRUE(eventually([&] { return testing::sign_given(gone); }));
}

// _TestSharedMemory.test_shared_memory_SharedMemoryServer_ignores_sigint, of the manager
TEST_P(Managers, TheServerIgnoresInterrupts) {
  Manager manager;
  const auto account = manager.make<Account>(3);
  ASSERT_EQ(::kill(manager.pid(), SIGINT), 0);
  EXPECT_EQ(account.call<&Account::balance>(), 3);
  ASSERT_EQ(::kill(manager.pid(), SIGINT), 0);
  EXPECT_EQ(account.call<&Account::deposit>(1), 4);
}

TEST_P(Managers, AMethodThatDoesNotReturnDoesNotKeepTheManagerFromEnding) {
  struct Stuck {
    void stay(std::string sign) const {
      testing::give_sign(sign);
      for (;;) ::pause();
    }
  };
  const std::string sign = dir_.file("in");
  Manager manager({.shutdown_timeout = 50ms});
  const auto stuck = manager.make<Stuck>();
  Future<void> never = stuck.async<&Stuck::stay>(sign);
  testing::await_sign(sign);
  manager.shutdown();
  EXPECT_THROW(never.get(), ManagerClosed);
}

// Each thread that calls has a slot of its own.
TEST_P(Managers, ManyThreadsCallAtOnce) {
  Manager manager;
  const auto account = manager.make<Account>(0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) threads.emplace_back(deposit_often, account, 100);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(account.call<&Account::balance>(), 800);
}

TEST_P(Managers, AForkedChildUsesItsParentsProxiesAndNotItsManager) {
  Manager manager;
  const auto account = manager.make<Account>(0);
  EXPECT_EQ(account.call<&Account::deposit>(1), 1);
  static Manager* inherited = nullptr;
  static const Proxy<Account>* proxy = nullptr;
  inherited = &manager;
  proxy = &account;
  Process child(ProcessOptions{.start_method = StartMethod::fork}, [] {
    proxy->call<&Account::deposit>(10);
    try {
      inherited->shutdown();
    } catch (const StateError&) {
      proxy->call<&Account::deposit>(100);
    }
  });
  child.start();
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
  EXPECT_EQ(account.call<&Account::balance>(), 111);
}

// TestSyncManagerTypes: what a manager has in Python is a handle here, and travels through methods
TEST_P(Managers, SharedObjectsCrossAsArgumentsAndResults) {
  struct Keeper {
    Queue<int> queue;
    Lock lock;
    Event event;
    Value<int> value;
    Queue<int> get_queue() const { return queue; }
    Event get_event() const { return event; }
    void fill(Queue<int> other, Value<int> number) const {
      other.put(number.get());
      queue.put(1);
    }
  };
  Manager manager;
  const auto keeper = manager.make<Keeper>();
  Queue<int> queue = keeper.call<&Keeper::get_queue>();
  Queue<int> own;
  keeper.call<&Keeper::fill>(own, Value<int>(5));
  EXPECT_EQ(own.get(), 5);
  EXPECT_EQ(queue.get(), 1);
  Event event = keeper.call<&Keeper::get_event>();
  Process child([](Event e) { e.set(); }, event);
  child.start();
  event.wait();
  child.join();
}

// TestSyncManagerTypes.test_dict, test_list, test_set, test_namespace, test_queue, test_event,
// test_condition, test_joinable_queue, test_value, test_array ...: made here, used there
TEST_P(Managers, WhatPythonsManagersMakeIsMadeByName) {
  Manager manager;
  auto dict = manager.dict<std::string, int>({{"a", 1}});
  auto list = manager.list<int>({1, 2});
  auto set = manager.set<std::string>(std::vector<std::string>{"x"});
  auto name_space = manager.name_space();
  auto queue = manager.queue<int>(2);
  auto joinable = manager.joinable_queue<int>();
  auto event = manager.event();
  auto lock = manager.lock();
  auto rlock = manager.rlock();
  auto semaphore = manager.semaphore(1);
  auto bounded = manager.bounded_semaphore(1);
  auto condition = manager.condition();
  auto barrier = manager.barrier(2);
  auto value = manager.value<int>(5);
  auto array = manager.array<int>(3);
  lock.lock();
  Process child(
      [](Dict<std::string, int> d, List<int> l, Set<std::string> s, Namespace n, Queue<int> q,
         Event e, Barrier b, Value<int> v, Array<int> a) {
        d["b"] = 2;
        l.push_back(3);
        s.insert("y");
        n.set("z", 4);
        q.put(1);
        q.put(2);
        v.set(6);
        a.set(0, 7);
        e.set();
        b.wait();
      },
      dict, list, set, name_space, queue, event, barrier, value, array);
  child.start();
  event.wait();
  barrier.wait();
  child.join();
  EXPECT_EQ(child.exitcode(), 0);
  EXPECT_EQ((std::map<std::string, int>(dict.begin(), dict.end())),
            (std::map<std::string, int>{{"a", 1}, {"b", 2}}));
  EXPECT_EQ(list.values(), (std::vector<int>{1, 2, 3}));
  EXPECT_TRUE(set.contains("y"));
  EXPECT_TRUE(queue.full());
  EXPECT_EQ(queue.get(), 1);
  EXPECT_EQ(value.get(), 6);
  EXPECT_EQ(array.get(0), 7);
  EXPECT_TRUE(lock.locked());
  lock.unlock();
  EXPECT_TRUE(rlock.try_lock());
  rlock.unlock();
  EXPECT_TRUE(semaphore.try_acquire());
  EXPECT_FALSE(semaphore.try_acquire());
  EXPECT_EQ(name_space.get<int>("z"), 4);
  joinable.put(1);
  EXPECT_EQ(joinable.get(), 1);
  joinable.task_done();
  bounded.acquire();
  bounded.release();
  manager.shutdown();
  EXPECT_EQ(dict.at("b"), 2);  // they do not need it
  static_cast<void>(condition);
}

}  // namespace
}  // namespace brood::manager_test
