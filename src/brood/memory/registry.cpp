#include <brood/memory/registry.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood::detail {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// One sleeper is woken by the end of a life; another might have been it.
constexpr auto kLookAgain = std::chrono::milliseconds(100);

Tag Registry::reserve(Tag holder, Role role, std::string_view name) {
  // Lowest first, so that for_each stops early and few pages are touched. The generation, not the
  // position, tells an old tag from a new one. So that a tag repeats late, a record that was taken
  // kLap times oftener than another waits for the other.
  constexpr std::uint32_t kLap = 1024;
  const auto lap = [](RecordWord word) {
    return word.generation == Tag::kMaxGeneration ? 0 : word.generation / kLap;
  };
  // First those in which nothing of the last process may be found.
  for (bool any = false;;) {
    std::uint32_t slot = kSlots;
    std::uint64_t old = 0;
    RecordWord word;
    for (std::uint32_t s = 0; s < kSlots; ++s) {
      const std::uint64_t seen = records_[s].word.load();
      const RecordWord candidate = RecordWord::unpack(seen);
      if (candidate.state != RecordState::free) continue;
      if (!any && records_[s].objects.load() != 0) continue;
      if (slot == kSlots || lap(candidate) < lap(word)) {
        slot = s;
        old = seen;
        word = candidate;
      }
      if (lap(word) == 0) break;
    }
    if (slot == kSlots && any) break;
    if (slot == kSlots) {
      any = true;
      continue;
    }
    Record& record = records_[slot];
    word.state = RecordState::reserved;
    word.generation = word.generation == Tag::kMaxGeneration ? 1 : word.generation + 1;
    word.holder = holder;
    if (!record.word.compare_exchange_strong(old, word.pack())) continue;
    record.pid.store(0);
    record.exit_code.store(0);
    record.own_code.store(Record::kNoCode);
    record.started.store(0);
    record.gone.store(0);
    record.pool_at.store(0);
    record.role = static_cast<std::uint32_t>(role);
    record.parent = holder.bits();
    record.dies_with_parent = 0;
    record.start_at = 0;
    record.start_bytes = 0;
    record.peak_bytes.store(0);
    record.user_microseconds.store(0);
    record.system_microseconds.store(0);
    record.name.fill('\0');
    std::copy_n(name.begin(), std::min(name.size(), record.name.size() - 1), record.name.begin());
    return {slot, word.generation};
  }
  throw SharedMemoryFull(fmt::format(
      "the family has {} processes already, which is the most: join or close some", kSlots));
}

bool Registry::change(Tag tag, RecordState from, RecordState to) noexcept {
  if (!tag.is_process()) return false;
  Record& record = records_[tag.slot()];
  std::uint64_t old = record.word.load();
  for (;;) {
    RecordWord word = RecordWord::unpack(old);
    if (word.generation != tag.generation() || word.state != from) return false;
    word.state = to;
    if (to == RecordState::free) word.holder = Tag();
    if (record.word.compare_exchange_weak(old, word.pack())) break;
  }
  record.event.fetch_add(1);
  futex_wake_all(record.event);
  return true;
}

bool Registry::join(Tag tag, int pid) {
  if (!tag.is_process()) return false;
  Record& record = records_[tag.slot()];
  LifeMutex& life_of_record = lives_[tag.slot()].mutex;
  // NOTE: the life word first. Who sees `live` must be able to trust what it says.
  // SUBTLE: another child may hold it: one that was started for the same record and was faster, or
  // a late one of an earlier generation. Either is about to change the record or to let go.
  for (;;) {
    const std::uint32_t event = record.event.load();
    if (state(tag) != RecordState::reserved) return false;
    if (life_of_record.lock_for_life()) break;
    if (errno != EBUSY) {
      throw SystemError("pthread_mutex_lock", "the life word of this process", errno);
    }
    const std::array<FutexWord, 2> words{life_of_record.watch(), FutexWord{&record.event, event}};
    if (life_of_record.alive()) futex_wait_any(words, Deadline::after(kLookAgain));
  }
  record.pid.store(pid);
  if (change(tag, RecordState::reserved, RecordState::live)) return true;
  life_of_record.release();
  return false;
}

void Registry::note_usage(Tag tag, const ResourceUsage& usage) noexcept {
  Record& record = records_[tag.slot()];
  record.user_microseconds.store(static_cast<std::uint64_t>(usage.user.count()));
  record.system_microseconds.store(static_cast<std::uint64_t>(usage.system.count()));
  record.peak_bytes.store(usage.peak_bytes);
}

std::optional<ResourceUsage> Registry::usage(Tag tag) const noexcept {
  const Record& its = record(tag);
  if (state(tag) != RecordState::ended || its.peak_bytes.load() == 0) return std::nullopt;
  return ResourceUsage{.peak_bytes = its.peak_bytes.load(),
                       .user = std::chrono::microseconds(its.user_microseconds.load()),
                       .system = std::chrono::microseconds(its.system_microseconds.load())};
}

bool Registry::note_ended(Tag tag, int exit_code) noexcept {
  Record& record = records_[tag.slot()];
  const RecordState before = state(tag);
  if (before != RecordState::reserved && before != RecordState::live) return false;
  // Two who note the same death write the same code, or one of them knows less (see own_code).
  record.exit_code.store(exit_code);
  return change(tag, before, RecordState::ended) ||
         change(tag, RecordState::live, RecordState::ended);
}

void Registry::free(Tag tag) noexcept {
  if (!change(tag, RecordState::ended, RecordState::free)) withdraw(tag);
}

bool Registry::withdraw(Tag tag) noexcept {
  return change(tag, RecordState::reserved, RecordState::free);
}

std::optional<RecordWord> Registry::word(Tag tag) const noexcept {
  if (!tag.is_process()) return std::nullopt;
  const RecordWord word = RecordWord::unpack(records_[tag.slot()].word.load());
  if (word.generation != tag.generation() || word.state == RecordState::free) return std::nullopt;
  return word;
}

RecordState Registry::state(Tag tag) const noexcept {
  const std::optional<RecordWord> now = word(tag);
  return now ? now->state : RecordState::free;
}

bool Registry::alive(Tag tag) const noexcept {
  if (!tag.is_process()) return thread_alive(tag);
  return state(tag) == RecordState::live && life(tag).alive();
}

bool Registry::over(Tag tag) const noexcept {
  const RecordState now = state(tag);
  // In all other states it is noted when it had been reaped.
  if (now != RecordState::live) return now != RecordState::reserved;
  if (alive(tag)) return false;
  if (record(tag).gone.load() != 0) return true;
  // SUBTLE: its main thread runs no more. Its other threads die of the same cause, but perhaps some
  // instructions later, and one of them may be at the word that the caller is about to take.
  const int pid = record(tag).pid.load();
  try {
    const ProcessHandle process = ProcessHandle::try_open(pid);
    return !process.valid() || process.wait_ended(Deadline::now());
  } catch (const SystemError& e) {
    static_cast<void>(e);  // no descriptor is left to ask with: ask again
    return pid <= 0;       // but nobody has such a number: somebody wrote over it
  }
}

ProcessHandle Registry::open(Tag tag) const {
  const int pid = state(tag) == RecordState::live ? life(tag).holder() : 0;
  if (pid == 0) return {};
  ProcessHandle process = ProcessHandle::try_open(pid);
  // SUBTLE: it was alive before the descriptor was opened; if it is alive now too, the id was not
  // reused in between, and the descriptor is the member's.
  if (!alive(tag)) return {};
  return process;
}

bool Registry::expected(Tag tag) const noexcept {
  if (state(tag) == RecordState::reserved) return record(tag).gone.load() == 0;
  return alive(tag);
}

void Registry::leave(Tag tag) noexcept { lives_[tag.slot()].mutex.release(); }

std::string Registry::name(Tag tag) const {
  const auto& text = record(tag).name;
  return {text.data(), ::strnlen(text.data(), text.size())};
}

}  // namespace brood::detail
