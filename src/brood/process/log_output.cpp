#include <brood/process/log_output.hpp>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/log_cell.hpp>
#include <brood/memory/this_thread.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/process/current_task.hpp>
#include <brood/process/family.hpp>
#include <brood/process/log_sink.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;
using Kind = LogDestination::Kind;

constinit const std::atomic<std::uint32_t> kSilence{LogCell::kOff};

/// How long a record waits for room on its way to the root.
constexpr auto kPutPatience = 100ms;

LogCell& cell_of(Member& member) { return member.segment().header().log; }

/// "worker-1.123.log"
std::string file_of(const std::string& folder, std::string name, int pid) {
  std::replace_if(
      name.begin(), name.end(),
      [](char c) { return c == '/' || static_cast<unsigned char>(c) < ' '; }, '_');
  return fmt::format("{}/{}.{}.log", folder, name, pid);
}

log::Rotation rotation_of(const LogDestination& destination) {
  return {.bytes = destination.rotate_bytes, .keep = destination.keep};
}

}  // namespace

// Constant initialisation: a record of a constructor that runs before main finds it.
constinit std::atomic<const std::atomic<std::uint32_t>*> log_level_word{&kSilence};

class LogOutput::Target {
 public:
  Target(Member& member, const LogDestination& destination)
      : name_(member.registry().name(member.self())), pid_(current_pid()) {
    switch (destination.kind) {
      case Kind::own_stderr:
        sink_ = LogSink::to_stderr();
        break;
      case Kind::own_file:
        sink_ = LogSink::to_file(file_of(destination.path, name_, pid_), rotation_of(destination));
        break;
      case Kind::root_stderr:
      case Kind::root_file:
      case Kind::root_call:
        queue_.emplace(destination.queue);
        break;
      case Kind::nowhere:
        break;
    }
  }

  /// False when it is lost.
  bool put(log::Record record) {
    record.process = name_;
    record.pid = pid_;
    if (sink_) sink_->put(record);
    if (!queue_) return true;
    if (queue_->put(record, Deadline::now())) {
      // Relaxed, here and below: whoever sees an old value waits once too often, or not at all.
      full_.store(false, std::memory_order_relaxed);
      return true;
    }
    if (full_.load(std::memory_order_relaxed)) return false;
    if (queue_->put(record, Deadline::after(kPutPatience))) return true;
    full_.store(true, std::memory_order_relaxed);
    return false;
  }

 private:
  std::string name_;
  int pid_;
  std::unique_ptr<LogSink> sink_;
  std::optional<LogQueue> queue_;
  std::atomic<bool> full_{false};
};

LogOutput& LogOutput::mine() {
  static auto* output = new LogOutput;
  return *output;
}

void LogOutput::family_begins(Member& member) noexcept {
  log_level_word.store(&cell_of(member).level);
}

void LogOutput::family_ends(Member& member) noexcept {
  if (log_level_word.load() != &cell_of(member).level) return;
  log_level_word.store(&kSilence);
  std::shared_ptr<Target> target;
  std::unique_ptr<LogCollector> collector;
  {
    const std::scoped_lock guard(mutex_);
    target = std::move(target_);
    collector = std::move(collector_);
    owner_ = Tag();
  }
}

void LogOutput::write(log::Level level, std::string_view text) noexcept {
  std::shared_ptr<Member> member;
  try {
    member = Member::current();
    // A fork(2) of the program's own is nobody in the family, and may have a copy of a locked lock.
    if (!member || !member->is_this_process()) return;
    const std::shared_ptr<Target> here = target(*member);
    if (!here) {
      cell_of(*member).lost.fetch_add(1);
      return;
    }
    log::Record record{.time = std::chrono::system_clock::now(),
                       .level = level,
                       .pid = 0,
                       .process = {},
                       .task = std::nullopt,
                       .text = text};
    if (const auto note = CurrentTask::get()) {
      record.task = log::Task{.item = note->item, .attempt = note->attempt};
    }
    if (!here->put(record)) cell_of(*member).lost.fetch_add(1);
  } catch (...) {
    if (member) cell_of(*member).lost.fetch_add(1);
  }
}

std::shared_ptr<LogOutput::Target> LogOutput::target(Member& member) {
  const std::scoped_lock guard(mutex_);
  // Read before the destination: what is read then is of this generation or a later one, and a
  // later one is read again.
  const std::uint64_t generation = cell_of(member).destination.generation();
  if (owner_ == member.self() && generation_ == generation) return target_;
  // What stands here was made by the process that this one is a copy of.
  if (owner_ != member.self()) static_cast<void>(collector_.release());
  target_.reset();
  owner_ = member.self();
  generation_ = generation;
  const auto destination = LogDestination::decode(cell_of(member).destination.read());
  if (destination.kind == Kind::nowhere) return nullptr;
  target_ = std::make_shared<Target>(member, destination);
  return target_;
}

void LogOutput::replace(Family& family, const LogDestination& destination,
                        std::unique_ptr<LogCollector> collector) {
  const std::string bytes = destination.encode();
  LogCell& cell = cell_of(family);
  const Tag self = ThisThread::tag();
  const auto dead = [&](Tag tag) { return !family.registry().alive(tag); };
  // It takes a living one a microsecond.
  const auto deadline = Deadline::after(5s);
  while (!cell.destination.try_write(bytes, self, dead)) {
    if (deadline.passed()) {
      throw TimeoutError("another process has begun to set where the log goes, and does not go on");
    }
    std::this_thread::yield();
  }
  {
    const std::scoped_lock guard(mutex_);
    if (owner_ != family.self()) static_cast<void>(collector_.release());
    target_.reset();
    std::swap(collector_, collector);
    owner_ = family.self();
    generation_ = ~std::uint64_t{0};  // whatever it is now: made anew with the next record
  }
  // Here the collector of before passes on what is left, and ends.
}

void LogOutput::set(LogDestination destination, LogCollector::Take take, log::Level level) {
  const std::shared_ptr<Family> family = Family::require();
  const std::scoped_lock guard(changing_);
  std::unique_ptr<LogCollector> collector;
  if (destination.to_root()) {
    if (!family->is_root()) {
      throw StateError("only the root of a family can have all records sent to itself");
    }
    if (destination.kind != Kind::root_call) {
      std::shared_ptr<LogSink> sink =
          destination.kind == Kind::root_file
              ? LogSink::to_file(destination.path, rotation_of(destination))
              : LogSink::to_stderr();
      take = [sink = std::move(sink)](const log::Record& record) { sink->put(record); };
    }
    static_cast<void>(destination.encode());  // throws before anything is begun
    collector = std::make_unique<LogCollector>(family, std::move(take));
    destination.queue = collector->queue();
  } else {
    const Target can_be_had(*family, destination);
  }
  replace(*family, destination, std::move(collector));
  cell_of(*family).level.store(static_cast<std::uint32_t>(level));
}

void LogOutput::off() {
  const std::shared_ptr<Family> family = Family::current();
  if (!family) return;
  const std::scoped_lock guard(changing_);
  cell_of(*family).level.store(LogCell::kOff);
  replace(*family, {}, nullptr);
}

bool LogOutput::flush(std::chrono::milliseconds patience) {
  // Asked for by what records are passed on to: it has all that came before the one it is at.
  if (LogCollector::passing_on()) return true;
  const std::scoped_lock guard(changing_);
  LogCollector* const collector = collector_here();
  return collector == nullptr || collector->flush(patience);
}

void LogOutput::write_what_is_left(Member& member) noexcept {
  try {
    const auto destination = LogDestination::decode(cell_of(member).destination.read());
    if (destination.kind != Kind::root_stderr && destination.kind != Kind::root_file) return;
    const LogQueue queue(destination.queue);
    std::unique_ptr<LogSink> sink;
    const auto take = [&](const log::Record& record) {
      if (!sink) {
        sink = destination.kind == Kind::root_file
                   ? LogSink::to_file(destination.path, rotation_of(destination))
                   : LogSink::to_stderr();
      }
      sink->put(record);
    };
    while (queue.pass_on(take)) continue;
  } catch (const std::exception& e) {
    static_cast<void>(e);  // there was no such queue, or there is no room to write to: it is over
  }
}

LogCollector* LogOutput::collector_here() {
  const std::shared_ptr<Member> member = Member::current();
  const std::scoped_lock guard(mutex_);
  return member && owner_ == member->self() ? collector_.get() : nullptr;
}

// NOTE: no lock is held while the thread ends, which may be writing a record, nor in the fork.
LogOutput::Pause::Pause() {
  LogOutput& output = mine();
  const std::scoped_lock guard(output.changing_);
  if (LogCollector* const collector = output.collector_here()) {
    collector->pause();
    owner_ = Member::current()->self();
  }
}

LogOutput::Pause::~Pause() {
  if (owner_.none()) return;
  LogOutput& output = mine();
  const std::scoped_lock guard(output.changing_);
  try {
    if (LogCollector* const collector = output.collector_here()) collector->resume();
  } catch (const Error& e) {
    static_cast<void>(e);  // no thread to be had: records are passed on at the end, and by flush()
  }
}

}  // namespace brood::detail
