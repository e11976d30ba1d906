#include <brood/memory/member.hpp>

#include <array>
#include <chrono>
#include <functional>
#include <utility>

#include <brood/memory/this_thread.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// Says, while it lives, what the calling thread sleeps on. A wait is a row of sleeps: as long as
/// nothing happened to its word, it goes on since the first.
class SleepNote {
 public:
  SleepNote(const Segment& segment, std::span<const FutexWord> words) {
    const Tag tag = ThisThread::tag_if_any();
    if (tag.none() || words.empty()) return;
    const auto* word = reinterpret_cast<const std::byte*>(words.front().word);
    const std::byte* begin = segment.at(0);
    if (std::less<>()(word, begin) || !std::less<>()(word, begin + segment.size())) return;
    Last& last = last_sleep;
    if (last.word != word || !last.goes_on) {
      last = {.word = word,
              .since = std::chrono::steady_clock::now().time_since_epoch(),
              .goes_on = false};
    }
    note_ = &segment.wait_note(tag);
    // Relaxed: for people who look.
    note_->since.store(static_cast<std::uint64_t>(std::chrono::nanoseconds(last.since).count()),
                       std::memory_order_relaxed);
    note_->at.store(segment.offset_of(word), std::memory_order_relaxed);
  }
  SleepNote(const SleepNote&) = delete;
  SleepNote& operator=(const SleepNote&) = delete;
  ~SleepNote() {
    if (note_ != nullptr) note_->at.store(0, std::memory_order_relaxed);
  }
  /// It ended for a reason that is not the word's.
  void goes_on(bool yes) const noexcept {
    if (note_ != nullptr) last_sleep.goes_on = yes;
  }

 private:
  struct Last {
    const std::byte* word;
    std::chrono::steady_clock::duration since;
    bool goes_on;
  };
  static constinit thread_local Last last_sleep;

  WaitNote* note_ = nullptr;
};
constinit thread_local SleepNote::Last SleepNote::last_sleep{};

/// Sleeps are never longer than this, in case that a death was not announced.
constexpr auto kBackstop = 1s;
constexpr auto kUnwatchedBackstop = 50ms;

}  // namespace

// SUBTLE: never destroyed by exit(). In a child, unmapping the segment while this process lives
// would take its life word out of the kernel's reach, and its death would go unnoticed.
std::shared_ptr<Member>& Member::the_member() noexcept {
  // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new): 16 bytes, at the start of all
  static auto* member = new std::shared_ptr<Member>;
  return *member;
}

std::shared_ptr<Member> Member::current() noexcept { return the_member(); }

Member::Member(Segment segment)
    : segment_(std::move(segment)), objects_(segment_), handles_(*this) {}

Member::~Member() { leave(); }

bool Member::join_as(Tag tag) {
  // The heap of the process that this one is a copy of: its blocks are that one's.
  if (heap_) heap_->abandon();
  self_ = Tag();
  if (!registry().join(tag, current_pid())) return false;
  self_ = tag;
  pid_ = current_pid();
  ThisThread::joined(tag);
  handles_.begin_as(tag);
  heap_ = std::make_unique<Heap>(segment_, self_);
  return true;
}

bool Member::is_this_process() const noexcept { return current_pid() == pid_; }

void Member::leave() noexcept {
  if (self_.none() || !registry().alive(self_)) return;
  ThisThread::forget_all();
  registry().leave(self_);
}

Member::Glance Member::look() const {
  Glance glance{};
  glance.epoch_ = segment_.header().death_epoch.load(std::memory_order_seq_cst);
  return glance;
}

bool Member::watched() const {
  const Tag watchdog = Tag::from_bits(segment_.header().watchdog.load());
  return !watchdog.none() && segment_.registry().expected(watchdog);
}

void Member::sleep(Glance glance, std::span<const FutexWord> words, Deadline deadline) const {
  sleep(glance, words, {}, deadline);
}

void Member::sleep(Glance glance, std::span<const FutexWord> words, std::span<const Tag> holders,
                   Deadline deadline) const {
  const SegmentHeader& header = segment_.header();
  const Registry& registry = segment_.registry();
  std::array<FutexWord, kMaxFutexWords> all{};
  std::size_t count = 0;
  for (const FutexWord& word : words) {
    if (count < all.size() - 2) all[count++] = word;
  }
  all[count++] = {&header.death_epoch, glance.epoch_};
  const int first_life = static_cast<int>(count);
  // SUBTLE: the word first, then whether it is alive: what was read is then what a living one's
  // word says, and the kernel compares it again.
  for (const Tag holder : holders) {
    if (count == all.size() - 1) break;
    all[count++] = registry.life(holder).watch();
    if (!registry.alive(holder)) return;
  }
  const bool is_watched = watched();
  if (is_watched) {
    // The watchdog announces deaths; its own is the kernel's to tell.
    const Tag watchdog = Tag::from_bits(header.watchdog.load());
    const FutexWord life = registry.life(watchdog).watch();
    if (registry.alive(watchdog)) all[count++] = life;
  }
  const auto backstop = Deadline::after(is_watched ? std::chrono::milliseconds(kBackstop)
                                                   : std::chrono::milliseconds(kUnwatchedBackstop));
  int which = -1;
  const SleepNote note(segment_, words);
  const FutexWake wake = futex_wait_any({all.data(), count}, deadline.sooner(backstop), &which);
  note.goes_on(wake == FutexWake::timed_out || which > 0);
  if (which >= first_life) announce(segment_.header());
}

}  // namespace brood::detail
