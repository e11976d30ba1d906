#include <brood/process/watchdog.hpp>

#include <csignal>
#include <iterator>
#include <utility>

#include <brood/errors.hpp>
#include <brood/process/family.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kRootKey = ~std::uint64_t{0} - 1;
constexpr int kUnknownExitCode = 255;

/// Kills the process of a record, if it is still the one that the record means.
void kill_member(Registry& registry, Tag tag) {
  if (!registry.alive(tag)) return;
  const ProcessHandle process = ProcessHandle::try_open(registry.record(tag).pid.load());
  // SUBTLE: it was alive before the descriptor was opened; if it is alive now too, the id was not
  // reused in between, and the descriptor is the member's.
  if (process.valid() && registry.alive(tag)) process.signal(SIGKILL);
}

}  // namespace

Watchdog::Watchdog(Family& family) : family_(family) {
  const Tag root = family.root();
  const int pid = static_cast<int>(family.segment().header().root_pid);
  root_ = ProcessHandle::try_open(pid);
  root_gone_ = !root_.valid() || !family.registry().alive(root);
  if (!root_gone_) poller_.add(root_.descriptor(), kRootKey);
  // Who was started before this watchdog came. What cannot be opened has ended.
  family.registry().for_each([&](Tag tag, const RecordWord& word) {
    if (tag == root || tag == family.self() || word.state != RecordState::live) return;
    ProcessHandle process = ProcessHandle::try_open(family.registry().record(tag).pid.load());
    if (process.valid() && family.registry().alive(tag)) {
      watch(tag, std::move(process));
    } else {
      pending_.push_back(tag);
      if (family.registry().record(tag).role == static_cast<std::uint32_t>(Role::watchdog)) {
        family.registry().note_ended(tag, kUnknownExitCode);  // the one that this one follows
        family.registry().free(tag);
      }
    }
  });
}

std::vector<std::uint64_t> Watchdog::wait() {
  // A death that leaves something to do later is followed by another event; the time is for what
  // no descriptor tells, such as a child that was forked but never joined.
  std::vector<std::uint64_t> keys =
      poller_.wait(pending_.empty() ? Deadline::never() : Deadline::after(100ms));
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
  if (family_.registry().alive(tag)) {
    // Another child won the record: what is the member's stays the member's.
    ProcessHandle member = ProcessHandle::try_open(family_.registry().record(tag).pid.load());
    if (member.valid() && family_.registry().alive(tag)) return watch(tag, std::move(member));
  }
  pending_.push_back(tag);
  clean_up_pending();
}

void Watchdog::note_end(Tag tag, Watched& watched) {
  Registry& registry = family_.registry();
  ExitCode code = kUnknownExitCode;
  if (watched.child_pid != 0) {
    watched.process.reap(code);
    const int member = registry.record(tag).pid.load();
    if (registry.word(tag) && member != 0 && member != watched.child_pid) return;
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

bool Watchdog::clean_up_after(Tag dead) {
  Registry& registry = family_.registry();
  bool in_use = false;
  registry.for_each([&](Tag tag, const RecordWord& word) {
    if (Tag::from_bits(registry.record(tag).parent) != dead && word.holder != dead) return;
    const Record& record = registry.record(tag);
    if (word.state == RecordState::ended) {
      registry.free(tag);
    } else if (word.state == RecordState::reserved && !watched_.contains(tag.bits())) {
      registry.free(tag);  // never started, or it will find out when it joins
    } else if (registry.alive(tag) || word.state == RecordState::reserved) {
      if (record.dies_with_parent != 0) kill_member(registry, tag);
      in_use = in_use || record.dies_with_parent != 0 || record.started.load() == 0;
    } else {
      registry.note_ended(tag, kUnknownExitCode);
      registry.free(tag);
    }
  });
  if (in_use) return false;
  family_.segment().extents().release_all(dead, family_.self());
  return true;
}

void Watchdog::clean_up_pending() {
  std::erase_if(pending_, [&](Tag dead) { return clean_up_after(dead); });
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
  for (bool any = true; any;) {
    for (auto& [bits, watched] : watched_) watched.process.signal(SIGKILL);
    for (auto& [bits, watched] : watched_) {
      static_cast<void>(watched.process.wait_ended(Deadline::never()));
      if (watched.child_pid != 0) note_end(Tag::from_bits(bits), watched);
    }
    watched_.clear();
    // Those whose starter had no time to tell; they may have started others meanwhile.
    any = false;
    registry.for_each([&](Tag tag, const RecordWord& word) {
      if (!is_other(tag) || word.state != RecordState::live || !registry.alive(tag)) return;
      any = true;
      ProcessHandle process = ProcessHandle::try_open(registry.record(tag).pid.load());
      if (process.valid() && registry.alive(tag)) {
        watched_[tag.bits()] = {std::move(process), 0};
      }
    });
  }
  for (auto& [bits, watched] : guardians) {
    watched.process.signal(SIGKILL);
    static_cast<void>(watched.process.wait_ended(Deadline::never()));
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
