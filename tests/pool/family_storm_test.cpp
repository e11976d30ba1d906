// A family in which everything happens at once: pools, children, queues, dictionaries, guarded
// values, locks, shared arrays, and processes that are killed at any time. Whoever lives sees only
// what was really there, nobody waits for the dead, and nothing is left behind.
// Not for ThreadSanitizer: processes that are killed.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <brood/dict.hpp>
#include <brood/guarded.hpp>
#include <brood/list.hpp>
#include <brood/lock.hpp>
#include <brood/process.hpp>
#include <brood/process/family.hpp>
#include <brood/queue.hpp>
#include <brood/shared_array.hpp>
#include <brood/shared_memory_info.hpp>

#include "pool_test_support.hpp"
#include "support/proof.hpp"
#include "support/shared_objects.hpp"
#include "support/shared_thing.hpp"

namespace family_storm_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Future;
using brood::Pool;
using brood::Process;
using brood::SharedArray;
using brood::WorkerCrashed;

using Random = std::mt19937;

// --- values that tell what they must be ---------------------------------------------------------

constexpr std::uint32_t kMixed = 2'654'435'761U;

/// Numbers whose first two say what the others must be.
std::vector<std::uint32_t> numbers(std::uint32_t which, std::size_t count) {
  std::vector<std::uint32_t> all{which, static_cast<std::uint32_t>(count)};
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back((which + static_cast<std::uint32_t>(i)) * kMixed);
  }
  return all;
}
bool are_whole(std::span<const std::uint32_t> all) {
  if (all.size() < 2 || all.size() != std::size_t{all[1]} + 2) return false;
  for (std::size_t i = 2; i < all.size(); ++i) {
    if (all[i] != (all[0] + static_cast<std::uint32_t>(i - 2)) * kMixed) return false;
  }
  return true;
}
std::string text(std::uint32_t which, std::size_t count) {
  const auto all = numbers(which, count);
  return {reinterpret_cast<const char*>(all.data()), all.size() * sizeof(all[0])};
}
bool is_whole(const std::string& text) {
  std::vector<std::uint32_t> all(text.size() / sizeof(std::uint32_t));
  std::memcpy(all.data(), text.data(), all.size() * sizeof(all[0]));
  return text.size() % sizeof(all[0]) == 0 && are_whole(all);
}

/// At the sizes where something changes: within a record, a block, a page, a granule.
std::size_t any_count(Random& random) {
  constexpr std::array<std::size_t, 8> kEdges{0, 6, 30, 250, 8'000, 16'000, 64'000, 262'000};
  const std::size_t edge = kEdges[random() % (random() % 4 == 0 ? kEdges.size() : 5)];
  return edge + random() % 20;
}

// --- what the family shares ---------------------------------------------------------------------

struct Twins {
  std::uint64_t one;
  std::uint64_t other;  // the same
};

struct World {
  brood::Queue<std::string> queue{brood::QueueOptions{.maxsize = 20}};
  brood::Dict<std::uint32_t, std::string> dict{};
  brood::List<std::string> list{};
  brood::Guarded<Twins> twins{};
  brood::Lock lock{};
  SharedArray<std::uint64_t> locked{64};  // all equal, but while the lock is held
};

/// Does something with the world; what it saw that cannot be is its result.
std::string do_anything(const World& world, Random& random) {
  const auto which = static_cast<std::uint32_t>(random());
  const std::uint32_t key = which % 16;
  switch (random() % 10) {
    case 0:
    case 1:
      static_cast<void>(world.queue.try_put_for(text(which, any_count(random)), 1ms));
      break;
    case 2:
    case 3: {
      const auto found = world.queue.try_get();
      if (found && !is_whole(*found)) return "a message that nobody has put";
      break;
    }
    case 4:
      world.dict.insert_or_assign(key, text(key, any_count(random)));
      break;
    case 5: {
      const auto found = world.dict.find(key);
      if (found && (!is_whole(*found) || text(key, 0).substr(0, 4) != found->substr(0, 4))) {
        return "a value of a dict that nobody has put";
      }
      break;
    }
    case 6:
      world.dict.erase(key);
      break;
    case 7: {
      if (world.list.size() < 20) {
        world.list.push_back(text(which, any_count(random) % 1000));
        break;
      }
      for (const std::string& each : world.list) {
        if (!is_whole(each)) return "an element that nobody has appended";
      }
      world.list.clear();
      break;
    }
    case 8: {
      auto twins = brood::Guarded<Twins>(world.twins).lock();
      if (twins->one != twins->other) return "a guarded value half changed";
      ++twins->one;
      twins->other = twins->one;
      break;
    }
    default: {
      brood::Lock lock = world.lock;
      const std::scoped_lock guard(lock);
      const std::uint64_t first = world.locked[0];
      const bool equal = std::ranges::count(world.locked, first) == 64;
      if (!equal && !lock.owner_died()) return "what a lock guards was half changed";
      for (std::uint64_t& each : world.locked) each = first + 1;
    }
  }
  return "";
}

// --- what processes do --------------------------------------------------------------------------

std::string use(World world, std::uint32_t seed, int steps) {
  Random random(seed);
  for (int i = 0; i != steps; ++i) {
    std::string complaint = do_anything(world, random);
    if (!complaint.empty()) return complaint;
  }
  return "";
}
void use_until_killed(World world, std::uint32_t seed) {
  Random random(seed);
  for (;;) {
    const std::string complaint = do_anything(world, random);
    if (complaint.empty()) continue;
    std::fprintf(stderr, "a child saw %s\n", complaint.c_str());
    std::_Exit(99);
  }
}

SharedArray<std::uint32_t> array(std::uint32_t which, std::size_t count) {
  return SharedArray<std::uint32_t>(numbers(which, count));
}

struct Several {
  std::string text;
  std::optional<SharedArray<std::uint32_t>> array;
  std::vector<std::vector<std::uint32_t>> lists;
};
Several several(std::uint32_t which, std::size_t count) {
  return {text(which, count), array(which, count / 2),
          std::vector<std::vector<std::uint32_t>>(3, numbers(which, count / 3))};
}
bool is_whole(const Several& all) {
  return is_whole(all.text) && all.array && are_whole(all.array->span()) && all.lists.size() == 3 &&
         std::ranges::all_of(all.lists, [](const auto& each) { return are_whole(each); });
}

std::string fails(std::uint32_t which) { throw BadInput(std::to_string(which)); }
std::string dies(std::uint32_t /*which*/) {
  ::raise(SIGKILL);
  return "";
}
std::string family_of_its_own(std::uint32_t which) {
  const Pool pool({.workers = 2});
  const std::vector<std::size_t> counts{10, 1000, 20'000, 300};
  for (const std::string& each :
       pool.map(text, std::vector<std::uint32_t>(counts.size(), which), counts)) {
    if (!is_whole(each)) return "a result of a pool of a worker";
  }
  return "";
}
std::uint64_t sum(const std::vector<std::uint32_t>& all) {
  return std::accumulate(all.begin(), all.end(), std::uint64_t{0});
}

// --- the root -----------------------------------------------------------------------------------

/// One life of a family. Deterministic but for the times at which others do what they do.
class Storm {
 public:
  Storm(std::uint64_t seed, bool kills_server)
      : random_(static_cast<std::uint32_t>(seed)), kills_server_(kills_server) {
    for (int i = 0; i != 2; ++i) open_pool();
  }

  void run(int steps) {
    for (int i = 0; i != steps && !::testing::Test::HasFailure(); ++i) step();
  }

  /// Nothing is killed any more: all that is still asked for comes to an end, and is right.
  void end() {
    while (!futures_.empty() && !::testing::Test::HasFailure()) fetch();
    for (Process& child : children_) child.kill();
    for (Process& child : children_) {
      child.join();
      expect_killed(child);
    }
    children_.clear();
    while (const auto message = world_.queue.try_get()) EXPECT_TRUE(is_whole(*message));
    EXPECT_TRUE(world_.queue.empty());
    for (const auto& [key, value] : world_.dict) EXPECT_TRUE(is_whole(value)) << key;
    EXPECT_EQ(world_.twins.get().one, world_.twins.get().other);
    EXPECT_EQ(use(world_, 1, 100), "");
    for (const auto& each : arrays_) EXPECT_TRUE(are_whole(each.span()));
    for (const Pool& pool : pools_) {
      EXPECT_EQ(pool.map(text, std::vector<std::uint32_t>{1, 2, 3},
                         std::vector<std::size_t>{10, 1000, 100}),
                (std::vector{text(1, 10), text(2, 1000), text(3, 100)}));
    }
  }

  [[nodiscard]] int kills() const { return kills_; }

 private:
  using Texts = Future<std::string>;
  struct Asked {
    std::string what;
    std::variant<Texts, Future<Several>, Future<SharedArray<std::uint32_t>>> future;
    bool complains = false;  // a text is what it saw that cannot be, or empty
    bool fails = false;
    bool dies = false;
  };

  std::uint32_t any() { return static_cast<std::uint32_t>(random_()); }
  template <class T>
  T& one_of(std::vector<T>& all) {
    return all[random_() % all.size()];
  }

  void open_pool() {
    pools_.emplace_back(brood::PoolOptions{
        .workers = static_cast<int>(1 + any() % 3),
        .max_tasks_per_worker = any() % 4 == 0 ? std::size_t{200} : std::size_t{0},
        .stderr_tail = any() % 2 == 0 ? std::size_t{0} : std::size_t{4096},
        .max_workers = 4});
  }

  void step() {
    switch (any() % 20) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return ask();
      case 5:
      case 6:
      case 7:
        return fetch();
      case 8:
        return forget();
      case 9:
        return map();
      case 10:
        return map_numbers();
      case 11:
        return iterate();
      case 12:
      case 13:
        return kill_a_worker();
      case 14:
        return children_.size() < 2 ? start_child() : kill_child();
      case 15:
        return keep_array();
      case 16:
        if (any() % 3 == 0) replace_pool();
        return;
      case 17:
        return one_of(pools_).resize(static_cast<int>(1 + any() % 4));
      case 18:
        if (kills_server_ && any() % 2 == 0) return kill_server();
        [[fallthrough]];
      default: {
        const std::string complaint = do_anything(world_, random_);
        EXPECT_EQ(complaint, "");
      }
    }
  }

  void ask() {
    if (futures_.size() > 40) return fetch();
    const Pool& pool = one_of(pools_);
    const std::uint32_t which = any();
    const std::size_t count = any_count(random_);
    switch (any() % 9) {
      case 0:
      case 1:
        futures_.push_back({.what = "text", .future = pool.submit(text, which, count)});
        break;
      case 2:
        futures_.push_back({.what = "several", .future = pool.submit(several, which, count)});
        break;
      case 3:
        futures_.push_back({.what = "array", .future = pool.submit(array, which, count)});
        break;
      case 4:
        futures_.push_back({.what = "failure", .future = pool.submit(fails, which), .fails = true});
        break;
      case 5:
        futures_.push_back({.what = "death", .future = pool.submit(dies, which), .dies = true});
        break;
      case 6:
        if (any() % 4 == 0) {
          futures_.push_back({.what = "pool of a worker",
                              .future = pool.submit(family_of_its_own, which),
                              .complains = true});
          break;
        }
        [[fallthrough]];
      default:
        futures_.push_back({.what = "use",
                            .future = pool.submit(use, world_, which, static_cast<int>(any() % 30)),
                            .complains = true});
    }
  }

  void fetch() {
    if (futures_.empty()) return;
    Asked asked = take();
    SCOPED_TRACE(asked.what);
    try {
      std::visit([&](auto& future) { check(asked, future.get()); }, asked.future);
      EXPECT_FALSE(asked.fails || asked.dies);
    } catch (const BadInput&) {
      EXPECT_TRUE(asked.fails);
    } catch (const WorkerCrashed& crash) {
      if (!kills_server_ || crash.signal() != 0) {
        EXPECT_EQ(crash.signal(), SIGKILL) << crash.what();
      }
    } catch (const brood::TaskCancelled&) {
      EXPECT_TRUE(some_were_cancelled_);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }
  static void check(const Asked& asked, const std::string& value) {
    if (asked.complains) {
      EXPECT_EQ(value, "");
    } else {
      EXPECT_TRUE(is_whole(value));
    }
  }
  static void check(const Asked& /*asked*/, const Several& value) { EXPECT_TRUE(is_whole(value)); }
  void check(const Asked& /*asked*/, const SharedArray<std::uint32_t>& value) {
    EXPECT_TRUE(are_whole(value.span()));
    if (any() % 2 == 0) arrays_.push_back(value);
  }
  Asked take() {
    std::swap(one_of(futures_), futures_.back());
    Asked asked = std::move(futures_.back());
    futures_.pop_back();
    return asked;
  }

  void forget() {
    if (futures_.empty()) return;
    Asked asked = take();
    if (any() % 2 == 0) {
      std::visit([](auto& future) { static_cast<void>(future.cancel()); }, asked.future);
    }
  }

  void map() {
    std::vector<std::uint32_t> which(1 + any() % 12);
    std::vector<std::size_t> counts;
    for (std::uint32_t& each : which) {
      each = any();
      counts.push_back(any_count(random_));
    }
    const auto all = one_of(pools_).with({.chunk = any() % 4}).try_map(text, which, counts);
    for (std::size_t i = 0; i != all.size(); ++i) {
      if (all[i]) {
        EXPECT_TRUE(*all[i] == text(which[i], counts[i])) << i;
      } else {
        EXPECT_TRUE(is_a<WorkerCrashed>(all[i].error())) << message_of(all[i].error());
      }
    }
  }

  void map_numbers() {
    const std::vector<std::uint32_t> all = numbers(any(), any_count(random_) % 5000);
    const auto twice =
        one_of(pools_).with({.retries = 10}).map([](std::uint32_t x) { return 2 * x + 1; }, all);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i != all.size(); ++i) wrong += twice[i] == 2 * all[i] + 1 ? 0U : 1U;
    EXPECT_EQ(wrong, 0U) << all.size();
  }

  void iterate() {
    const std::size_t enough = any() % 30;
    std::size_t i = 0;
    const std::vector<std::uint32_t> some = numbers(any(), any_count(random_) % 1000);
    auto results = one_of(pools_)
                       .with({.retries = 10, .window = 1 + any() % 10})
                       .imap(sum, std::vector<std::vector<std::uint32_t>>(20, some));
    for (const std::uint64_t each : results) {
      EXPECT_EQ(each, sum(some));
      if (++i > enough) break;
    }
  }

  void kill_a_worker() {
    const std::vector<int> pids = one_of(pools_).worker_pids();
    if (pids.empty()) return;
    // From worker_pids() on until here nobody but this thread could reap it.
    if (::kill(pids[any() % pids.size()], SIGKILL) == 0) ++kills_;
  }
  void start_child() {
    children_.emplace_back(use_until_killed, world_, any());
    children_.back().start();
  }
  void kill_child() {
    std::swap(one_of(children_), children_.back());
    Process child = std::move(children_.back());
    children_.pop_back();
    child.kill();
    ++kills_;
    EXPECT_EQ(use(world_, any(), static_cast<int>(any() % 4)), "") << "while it dies";
    child.join();
    expect_killed(child);
  }
  /// Without the server there may be nobody who knows how it ended.
  void expect_killed(const Process& child) const {
    if (kills_server_ && child.exitcode() == 255) return;
    EXPECT_EQ(child.exitcode(), -SIGKILL);
  }
  void kill_server() {
    const auto family = brood::detail::Family::require();
    const auto server = brood::detail::Tag::from_bits(family->segment().header().watchdog.load());
    if (!family->registry().alive(server)) return;
    if (::kill(family->registry().record(server).pid.load(), SIGKILL) == 0) ++kills_;
  }

  void keep_array() {
    if (arrays_.size() > 5) arrays_.erase(arrays_.begin() + any() % 3);
    for (const auto& each : arrays_) EXPECT_TRUE(are_whole(each.span()));
    arrays_.push_back(array(any(), any_count(random_)));
  }

  void replace_pool() {
    std::swap(one_of(pools_), pools_.back());
    some_were_cancelled_ = true;  // by terminate() and by the destructor
    if (any() % 2 == 0) pools_.back().terminate();
    pools_.pop_back();
    open_pool();
  }

  Random random_;
  bool kills_server_;
  World world_;
  std::vector<Pool> pools_;
  std::vector<Process> children_;
  std::vector<Asked> futures_;
  std::vector<SharedArray<std::uint32_t>> arrays_;
  bool some_were_cancelled_ = false;
  int kills_ = 0;
};

/// Who has shared memory, beside this process, which keeps some to use it again.
std::string held_by_others() {
  std::string text;
  for (const auto& process : brood::shared_memory_info().processes) {
    if (process.pid == ::getpid()) continue;
    text += fmt::format("{} ({}): {} bytes\n", process.name, process.pid, process.bytes);
  }
  return text;
}

class FamilyStormTest : public EveryStartMethod {};
BROOD_UNDER_EVERY_START_METHOD(FamilyStormTest);

void storms(bool kills_server, Seeds seeds) {
  int kills = 0;
  for (std::uint64_t seed = seeds.first; seed != seeds.first + seeds.count; ++seed) {
    SCOPED_TRACE("BROOD_SEED=" + std::to_string(seed));
    const std::size_t before = shared_objects();
    {
      Storm storm(seed, kills_server);
      storm.run(kAddressSanitizer ? 80 : 250);
      storm.end();
      kills += storm.kills();
    }
    EXPECT_TRUE(eventually([&] { return shared_objects() == before; }))
        << shared_objects() - before;
    EXPECT_TRUE(eventually([&] { return held_by_others() == ""; })) << held_by_others();
    if (::testing::Test::HasFailure()) break;
  }
  EXPECT_TRUE(kills > 0 || kAddressSanitizer);
}

TEST_P(FamilyStormTest, WhoeverLivesSeesOnlyWhatWasThereAndNothingIsLeft) {
  storms(false, seeds_to_try(kAddressSanitizer ? 1 : 2, 100));
}

TEST_P(FamilyStormTest, TheForkServerMayDieTooAtAnyTime) { storms(true, seeds_to_try(1, 100)); }

}  // namespace
}  // namespace family_storm_test
