#include <brood/process/log_collector.hpp>

#include <exception>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <brood/memory/object_kind.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/quiet_thread.hpp>
#include <brood/process/log_record.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostRecords = std::size_t{1} << 14U;

constinit thread_local bool is_passing_on = false;

ObjectType log_queue_type() { return object_type<log::Record>(ObjectKind::queue); }

}  // namespace

LogQueue::LogQueue() : core_(log_queue_type(), {.maxsize = kMostRecords}) {}
LogQueue::LogQueue(ObjectRef ref)
    : core_(Handle::adopt(ref, log_queue_type(), Ring<>::header_bytes())) {}

bool LogQueue::put(const log::Record& record, Deadline deadline) const {
  QueueMessageSink message(core_.heap());
  encode_log_record(message, record);
  const std::optional<QueueCore::Held> held = core_.claim(deadline);
  if (held) core_.put(*held, message);
  return held.has_value();
}

bool LogQueue::pass_on(const std::function<void(const log::Record&)>& take) const {
  QueueCore::Held held;
  if (core_.take(held, false, Deadline::now()) != QueueCore::Taken::message) return false;
  try {
    ByteSource source = core_.bytes(held);
    take(decode_log_record(source));
  } catch (...) {
    core_.release(held);
    throw;
  }
  core_.release(held);
  return true;
}

LogCollector::LogCollector(std::shared_ptr<Member> member, Take take)
    : member_(std::move(member)),
      owner_(member_->self()),
      take_(std::move(take)),
      reported_lost_(member_->segment().header().log.lost.load()) {
  resume();
}

LogCollector::~LogCollector() {
  if (owner_ != member_->self() || !member_->is_this_process()) return;
  pause();
  flush(1s);
}

void LogCollector::pause() {
  if (!thread_.joinable() || std::this_thread::get_id() == thread_.get_id()) return;
  stop_.store(1);
  futex_wake_all(stop_);
  thread_.join();
}

void LogCollector::resume() {
  if (thread_.joinable()) return;
  stop_.store(0);
  thread_ = start_quiet_thread([this] { run(); });
}

void LogCollector::run() {
  set_thread_name("brood-log");
  const std::shared_ptr<Watch> watch = queue_.core().watch();
  while (stop_.load() == 0) {
    drain();
    const Member::Glance glance = member_->look();
    std::vector<FutexWord> words{{&stop_, 0}};
    Deadline soon = Deadline::never();
    if (!watch->look(words, soon)) member_->sleep(glance, words, soon);
  }
}

bool LogCollector::passing_on() noexcept { return is_passing_on; }

void LogCollector::drain() {
  const std::scoped_lock guard(mutex_);
  is_passing_on = true;
  for (bool more = true; more;) {
    try {
      more = queue_.pass_on(take_);
    } catch (...) {
      // Bytes that are none, or a destination that fails: there is nobody to be told here.
      member_->segment().header().log.lost.fetch_add(1);
    }
  }
  report_lost();
  is_passing_on = false;
}

void LogCollector::report_lost() {
  const std::uint64_t lost = member_->segment().header().log.lost.load();
  const std::uint64_t more = lost - reported_lost_;
  if (more == 0) return;
  reported_lost_ = lost;
  try {
    const std::string name = member_->registry().name(member_->self());
    const std::string text = fmt::format(
        "{} records of the family could not be written: they came faster than they were passed "
        "on, or their destination failed",
        more);
    take_({.time = std::chrono::system_clock::now(),
           .level = log::Level::warn,
           .pid = current_pid(),
           .process = name,
           .task = std::nullopt,
           .text = text});
  } catch (...) {
    return;  // the count tells
  }
}

bool LogCollector::flush(std::chrono::milliseconds patience) {
  const Deadline deadline = Deadline::after(patience);
  for (;;) {
    drain();
    if (queue_.core().size() == 0) return true;
    if (deadline.passed()) return false;
    std::this_thread::sleep_for(100us);
  }
}

}  // namespace brood::detail
