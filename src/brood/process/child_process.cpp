#include <brood/process/child_process.hpp>

#include <array>
#include <utility>

#include <fmt/format.h>

#include <brood/channel/codec.hpp>
#include <brood/channel/heap_sink.hpp>
#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/program.hpp>
#include <brood/process/child.hpp>
#include <brood/process/launch.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

/// How long the watchdog may take to say how a process ended before others are asked.
constexpr auto kPatience = 1s;
/// How long it may take to say what the process had used, when the kernel has said how it ended.
constexpr auto kUsagePatience = 250ms;
/// How long, without a watchdog, whoever inherits the process may take to reap it, at which the
/// kernel knows how it ended: if the process itself has said so, and if it has not.
constexpr auto kReapPatience = 100ms;
constexpr auto kLongReapPatience = 5s;

}  // namespace

ChildProcess::ChildProcess(std::shared_ptr<Family> family, ChildSpec spec)
    : family_(std::move(family)), creator_(family_->self()), spec_(std::move(spec)) {}

ChildProcess::~ChildProcess() {
  if (!made_here()) return;
  free_blocks();
  if (started_) family_->forget_child(tag_);
  // Ended or not: it is nobody's to wait for any more, and the watchdog frees the record when the
  // process is gone and its holder does not hold it.
  if (!tag_.none() && exit_code_) family_->registry().free(tag_);
}

void ChildProcess::require_here(const char* what) const {
  if (!made_here()) {
    throw StateError(fmt::format("{} of process {}: only the process that made it may do that",
                                 what, spec_.name));
  }
}

void ChildProcess::require_started(const char* what) const {
  require_here(what);
  if (!started_)
    throw StateError(fmt::format("{} of process {}: start it first", what, spec_.name));
}

void ChildProcess::start() {
  require_here("start");
  const std::scoped_lock guard(mutex_);
  if (started_) throw StateError(fmt::format("process {} has been started already", spec_.name));
  const StartMethod method = spec_.method.value_or(get_start_method());

  Registry& registry = family_->registry();
  const Tag tag = registry.reserve(family_->self(), spec_.role, spec_.name);
  try {
    std::optional<std::vector<std::string>> variables;
    if (method == StartMethod::forkserver) {
      variables = environment();
      if (variables == family_->server_environment()) variables.reset();
    }
    HeapSink sink(family_->heap());
    encode(sink, StartInfo{.function = spec_.function,
                           .default_method = static_cast<std::uint8_t>(get_start_method()),
                           .environment = std::move(variables),
                           .payload_at = spec_.payload.empty()
                                             ? 0
                                             : family_->segment().offset_of(spec_.payload.data),
                           .payload_bytes = spec_.payload_bytes});
    const std::size_t bytes = sink.written();
    start_block_ = sink.release();
    Record& record = registry.record(tag);
    record.start_at = family_->segment().offset_of(start_block_.data);
    record.start_bytes = bytes;
    record.dies_with_parent = spec_.dies_with_parent ? 1 : 0;
    Launched launched = launch(*family_, tag, method, spec_.descriptors.numbers());
    process_ = std::move(launched.process);
    own_child_ = launched.own_child;
    pid_ = launched.pid;
  } catch (...) {
    // What a fork would have held; before the record, and so its place in the bitmaps, is
    // another's.
    family_->objects().release_all(tag, family_->self());
    registry.free(tag);
    family_->heap().free(std::exchange(start_block_, {}));
    throw;
  }
  tag_ = tag;
  started_ = true;
  spec_.descriptors = {};
  family_->remember_child(tag);
}

bool ChildProcess::started() const {
  const std::scoped_lock guard(mutex_);
  return started_;
}

void ChildProcess::finish(ExitCode code) {
  // Also where another has noted the end, who may not have come to telling: who asks here next,
  // about what the dead held, must not find things as they were.
  announce(family_->segment().header());
  exit_code_ = code;
  usage_ = family_->registry().usage(tag_);
  if (!spec_.keeps_record) family_->registry().free(tag_);
  family_->forget_child(tag_);
  free_blocks();
}

void ChildProcess::free_blocks() {
  family_->heap().free(std::exchange(start_block_, {}));
  family_->heap().free(std::exchange(spec_.payload, {}));
  spec_.kept.clear();
}

bool ChildProcess::settle() {
  if (exit_code_) return true;
  Registry& registry = family_->registry();
  Record& record = registry.record(tag_);
  if (own_child_) {
    ExitCode code = kUnknownExitCode;
    ResourceUsage usage;
    switch (process_.reap(code, &usage)) {
      case ProcessHandle::Reap::running:
        return false;
      case ProcessHandle::Reap::not_a_child:  // somebody waits for all children of this process
        if (!process_.wait_ended(Deadline::now())) return false;
        code = process_.exit_code_from_kernel().value_or(
            record.own_code.load() == Record::kNoCode ? kUnknownExitCode : record.own_code.load());
        break;
      case ProcessHandle::Reap::reaped:
        registry.note_usage(tag_, usage);
        break;
    }
    registry.note_ended(tag_, code);
    finish(code);
    return true;
  }
  if (registry.state(tag_) == RecordState::ended) {
    finish(record.exit_code.load());
    return true;
  }
  if (record.started.load() != 0) free_blocks();
  if (!process_.wait_ended(Deadline::now())) return false;
  // It is gone, and the fork server, its parent, has not said how: it may be about to, or it is
  // dead or stopped. The kernel knows, in most cases; then the child's own last word counts.
  const auto now = Deadline::Clock::now();
  if (!ended_unnoted_) ended_unnoted_ = now;
  std::optional<ExitCode> code = process_.exit_code_from_kernel();
  const auto waited = now - *ended_unnoted_;
  if (!code && (!family_->watched() || waited >= kPatience)) {
    const std::int32_t own = record.own_code.load();
    const bool said = own != Record::kNoCode;
    if (waited >= (said ? std::chrono::milliseconds(kReapPatience) : kLongReapPatience)) {
      code = said ? own : kUnknownExitCode;
    }
  }
  if (!code) return false;
  registry.note_ended(tag_, *code);
  finish(*code);
  return true;
}

bool ChildProcess::join(Deadline deadline) {
  {
    const std::scoped_lock guard(mutex_);
    require_started("join");
    if (exit_code_) return true;
  }
  Record& record = family_->registry().record(tag_);
  for (;;) {
    const Family::Glance glance = family_->look();
    const std::uint32_t event = record.event.load();
    {
      const std::scoped_lock guard(mutex_);
      if (settle()) return true;
    }
    if (deadline.passed()) return false;
    if (own_child_) {
      // This process is told by the kernel, nobody else needs to.
      static_cast<void>(process_.wait_ended(deadline));
    } else if (ended_unnoted_ || !family_->watched()) {
      static_cast<void>(process_.wait_ended(deadline));
      const std::array<FutexWord, 1> words{FutexWord{&record.event, event}};
      family_->sleep(glance, words, deadline.sooner(Deadline::after(5ms)));
    } else {
      const std::array<FutexWord, 1> words{FutexWord{&record.event, event}};
      family_->sleep(glance, words, deadline);
    }
  }
}

bool ChildProcess::alive() {
  require_here("is_alive");
  const std::scoped_lock guard(mutex_);
  return started_ && !settle();
}

std::optional<ExitCode> ChildProcess::exit_code() {
  require_here("exitcode");
  const std::scoped_lock guard(mutex_);
  if (started_) settle();
  return exit_code_;
}

std::optional<ResourceUsage> ChildProcess::usage() {
  const Deadline deadline = Deadline::after(kUsagePatience);
  for (;;) {
    const Family::Glance glance = family_->look();
    {
      const std::scoped_lock guard(mutex_);
      if (!exit_code_) return std::nullopt;
      if (!usage_ && spec_.keeps_record) usage_ = family_->registry().usage(tag_);
      if (usage_ || own_child_ || !spec_.keeps_record) return usage_;
    }
    // Only the parent, a fork server, is told: when it reaps, which may be just about to happen.
    if (!family_->watched() || deadline.passed()) return std::nullopt;
    family_->sleep(glance, {}, deadline);
  }
}

void ChildProcess::signal(int number) {
  const std::scoped_lock guard(mutex_);
  require_started("a signal");
  if (!settle()) process_.signal(number);
}

std::optional<std::chrono::nanoseconds> ChildProcess::cpu_time() {
  const std::scoped_lock guard(mutex_);
  if (!started_ || settle()) return std::nullopt;
  return cpu_time_of(pid_);
}

std::optional<int> ChildProcess::pid() const {
  const std::scoped_lock guard(mutex_);
  if (!started_) return std::nullopt;
  return pid_;
}

int ChildProcess::sentinel() const {
  const std::scoped_lock guard(mutex_);
  return process_.descriptor();
}

}  // namespace brood::detail
