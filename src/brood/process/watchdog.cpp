#include <brood/process/watchdog.hpp>

#include <algorithm>
#include <csignal>
#include <iterator>
#include <set>
#include <thread>
#include <utility>

#include <brood/errors.hpp>
#include <brood/memory/heap.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/process/family.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kRootKey = ~std::uint64_t{0} - 1;
constexpr auto kLookAround = 1s;
/// How often a family's end looks again for a member that it cannot open, a millisecond apart.
constexpr int kTries = 1000;

void kill_member(Registry& registry, Tag tag) {
  const ProcessHandle process = registry.open(tag);
  if (process.valid()) process.signal(SIGKILL);
}

/// As well as it can be done: that one cannot be ended must not keep the others alive.
void signal_quietly(const ProcessHandle& process) noexcept {
  try {
    process.signal(SIGKILL);
  } catch (const SystemError& e) {
    static_cast<void>(e);
  }
}
void wait_quietly(const ProcessHandle& process) noexcept {
  try {
    static_cast<void>(process.wait_ended(Deadline::never()));
  } catch (const SystemError& e) {
    static_cast<void>(e);
  }
}

}  // namespace

Watchdog::Watchdog(Family& family, bool follows)
    : family_(family), next_look_(follows ? Deadline::after(kLookAround) : Deadline::never()) {
  family.heap().keep_nothing();
  const Tag root = family.root();
  const int pid = static_cast<int>(family.segment().header().root_pid);
  root_ = ProcessHandle::try_open(pid);
  root_gone_ = !root_.valid() || !family.registry().alive(root);
  if (!root_gone_) poller_.add(root_.descriptor(), kRootKey);
  look_around();
}

// Who was started, and who has died, without this watchdog being told: before it came, and, as
// members hold the descriptor on which they told another, ever since.
void Watchdog::look_around() {
  Registry& registry = family_.registry();
  registry.for_each([&](Tag tag, const RecordWord& word) {
    if (tag == family_.root() || tag == family_.self() || word.state != RecordState::live) return;
    if (watched_.contains(tag.bits()) || adopt(tag)) return;
    add_pending(tag);  // what cannot be opened has ended
    if (registry.record(tag).role == static_cast<std::uint32_t>(Role::watchdog)) {
      registry.note_ended(tag, kUnknownExitCode);  // the one that this one follows
      registry.free(tag);
    }
  });
  // Those whose records are free already, and who have not been taken out of the objects yet.
  registry.for_each_in_objects([&](Tag tag) {
    if (!registry.expected(tag)) add_pending(tag);
  });
  find_forgotten();
  clean_up_pending();
}

void Watchdog::add_pending(Tag dead) {
  // With the root all ends, and what it held is looked at once more: see write_what_is_left().
  if (dead == family_.root()) return;
  if (std::ranges::find(pending_, dead) == pending_.end()) pending_.push_back(dead);
}

// Those who died while nobody watched, and whose parents have freed their records by now, or noted
// their ends at least: all that is left of them are their tags, at what they held.
void Watchdog::find_forgotten() {
  const Registry& registry = family_.registry();
  std::set<Tag> found;
  family_.segment().heap().for_each_holder([&](Tag tag) { found.insert(tag); });
  for (const Tag tag : family_.segment().names().owners()) found.insert(tag);
  for (const Tag tag : found) {
    // NOTE: tags without a generation are no process's: what is nobody's, and what belongs to
    // objects.
    if (tag.generation() == 0 || !tag.is_process()) continue;
    const RecordState state = registry.state(tag);
    if (state == RecordState::free || state == RecordState::ended) add_pending(tag);
  }
}

std::vector<std::uint64_t> Watchdog::wait() {
  // A death that leaves something to do later is followed by another event; the time is for what
  // no descriptor tells, such as a child that was forked but never joined.
  std::vector<std::uint64_t> keys =
      poller_.wait(pending_.empty() ? next_look_ : Deadline::after(100ms));
  if (next_look_.passed()) {
    look_around();
    next_look_ = Deadline::after(kLookAround);
  }
  if (keys.empty()) clean_up_pending();
  return keys;
}

void Watchdog::watch(Tag tag, ProcessHandle process) { watch_child(tag, std::move(process), 0); }

void Watchdog::watch_child(Tag tag, ProcessHandle process, int pid) {
  poller_.add(process.descriptor(), tag.bits());
  watched_[tag.bits()] = {std::move(process), pid};
}

void Watchdog::handle(std::uint64_t key) {
  if (key == kRootKey) {
    root_gone_ = true;
    return;
  }
  const auto found = watched_.find(static_cast<std::uint32_t>(key));
  if (found == watched_.end()) return;
  const Tag tag = Tag::from_bits(found->first);
  Watched watched = std::move(found->second);
  watched_.erase(found);
  poller_.remove(watched.process.descriptor());
  note_end(tag, watched);
  // Alive: another child won the record, and what is the member's stays the member's.
  if (adopt(tag)) return;
  add_pending(tag);
  clean_up_pending();
}

void Watchdog::note_end(Tag tag, Watched& watched) {
  Registry& registry = family_.registry();
  ExitCode code = kUnknownExitCode;
  if (watched.child_pid != 0) {
    ResourceUsage usage;
    const bool reaped = watched.process.reap(code, &usage) == ProcessHandle::Reap::reaped;
    const int member = registry.record(tag).pid.load();
    if (registry.word(tag) && member != 0 && member != watched.child_pid) return;
    if (reaped && registry.word(tag)) registry.note_usage(tag, usage);
    registry.note_ended(tag, code);
  }
  const std::optional<RecordWord> word = registry.word(tag);
  // How it ended is its parent's to find out and note; that it ended is news for everybody.
  if (word) registry.record(tag).gone.store(1);
  if (word && !registry.alive(word->holder)) {
    registry.note_ended(tag, code);  // its starter, who would have known better, is gone
    registry.free(tag);
  }
  announce(family_.segment().header());
}

bool Watchdog::adopt(Tag tag) {
  ProcessHandle process = family_.registry().open(tag);
  if (!process.valid()) return false;
  watch(tag, std::move(process));
  return true;
}

bool Watchdog::clean_up_after(Tag dead) {
  Registry& registry = family_.registry();
  if (registry.state(dead) == RecordState::live && !registry.over(dead)) return false;
  bool in_use = false;
  registry.for_each([&](Tag tag, const RecordWord& word) {
    if (Tag::from_bits(registry.record(tag).parent) != dead && word.holder != dead) return;
    const Record& record = registry.record(tag);
    // The guardian of a fork server that died, this process perhaps, uses nothing that it held.
    if (record.role == static_cast<std::uint32_t>(Role::watchdog) && registry.alive(tag)) return;
    const bool watched = watched_.contains(tag.bits());
    if (word.state == RecordState::ended) {
      registry.free(tag);
    } else if (word.state == RecordState::reserved && !watched) {
      // Never started, or it will find out when it joins; its starter may have had it hold objects.
      if (!registry.withdraw(tag)) {  // it has just joined
        in_use = true;
        return;
      }
    } else if (registry.alive(tag) || word.state == RecordState::reserved) {
      // Its starter may have died before it asked for that.
      if (word.state == RecordState::live && !watched) in_use = !adopt(tag) || in_use;
      if (record.dies_with_parent != 0) kill_member(registry, tag);
      in_use = in_use || record.dies_with_parent != 0 || record.started.load() == 0;
      return;
    } else if (!registry.over(tag)) {
      in_use = true;
      return;
    } else {
      registry.note_ended(tag, kUnknownExitCode);
      registry.free(tag);
    }
    // Nobody else will tell: its starter died before it asked for it to be watched.
    if (!watched) unwatched_.push_back(tag);
  });
  if (in_use) return false;
  family_.segment().extents().release_all(dead, family_.self());
  Heap::recover(family_.segment(), dead, family_.self());
  family_.segment().names().unlink_of(dead);
  // What a worker's results name is its until the pool has taken that over, and freed the record.
  const std::optional<RecordWord> record = registry.word(dead);
  if (record && registry.record(dead).role == static_cast<std::uint32_t>(Role::worker) &&
      registry.alive(record->holder)) {
    return false;
  }
  // False while a stopped process is in the way.
  return family_.objects().release_all(dead, family_.self());
}

void Watchdog::clean_up_pending() {
  do {
    pending_.insert(pending_.end(), unwatched_.begin(), unwatched_.end());
    unwatched_.clear();
    std::erase_if(pending_, [&](Tag dead) { return clean_up_after(dead); });
  } while (!unwatched_.empty());
}

void Watchdog::kill_family() {
  Registry& registry = family_.registry();
  const auto is_watchdog = [&](Tag tag) {
    return registry.record(tag).role == static_cast<std::uint32_t>(Role::watchdog);
  };
  // NOTE: watchdogs last. Two of them that killed each other first would leave the rest alive.
  const auto is_other = [&](Tag tag) {
    return tag != family_.root() && tag != family_.self() && !is_watchdog(tag);
  };
  std::map<std::uint32_t, Watched> guardians;
  for (auto entry = watched_.begin(); entry != watched_.end();) {
    const auto next = std::next(entry);
    if (is_watchdog(Tag::from_bits(entry->first))) {
      auto taken = watched_.extract(entry);
      if (taken.mapped().child_pid != 0) guardians.insert(std::move(taken));
    }
    entry = next;
  }
  int tries = 0;
  for (bool any = true; any;) {
    for (auto& [bits, watched] : watched_) signal_quietly(watched.process);
    for (auto& [bits, watched] : watched_) {
      wait_quietly(watched.process);
      if (watched.child_pid != 0) note_end(Tag::from_bits(bits), watched);
    }
    watched_.clear();
    // Those whose starter had no time to tell; they may have started others meanwhile.
    bool unopened = false;
    registry.for_each([&](Tag tag, const RecordWord& word) {
      if (!is_other(tag) || word.state != RecordState::live || !registry.alive(tag)) return;
      ProcessHandle process = registry.open(tag);
      unopened = unopened || !process.valid();
      if (process.valid()) watched_[tag.bits()] = {std::move(process), 0};
    });
    any = !watched_.empty();
    // Alive, and yet there is no such process: it has just ended, or its record was written over.
    if (!any && unopened && tries++ < kTries) {
      std::this_thread::sleep_for(1ms);
      any = true;
    }
  }
  // Nobody is left who could make more of them; while a guardian is, who goes on if this one ends.
  family_.segment().names().unlink_all();
  for (auto& [bits, watched] : guardians) {
    signal_quietly(watched.process);
    wait_quietly(watched.process);
    note_end(Tag::from_bits(bits), watched);
  }
}

void Watchdog::end_others() {
  family_.registry().for_each([&](Tag tag, const RecordWord& word) {
    if (tag == family_.self() || word.state != RecordState::live) return;
    if (family_.registry().record(tag).role != static_cast<std::uint32_t>(Role::watchdog)) return;
    kill_member(family_.registry(), tag);
  });
}

void Watchdog::abandon() {
  watched_.clear();
  root_ = ProcessHandle();
  poller_.close();
}

}  // namespace brood::detail
