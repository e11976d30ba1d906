#include <brood/pool/worker_stderr.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <exception>
#include <span>
#include <thread>
#include <utility>

#include <brood/platform/futex.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kNews = 0;
constexpr int kStderr = 2;
constexpr std::size_t kPiece = 16384;
/// As much as a pipe holds: what the dead had written; who writes on is a descendant.
constexpr std::size_t kMostOfTheDead = 65536;
/// How long the end waits for somebody who takes what is left.
constexpr auto kEndPatience = 1s;
/// How often the thread looks whether it is to end while nobody takes anything.
constexpr auto kLook = 100ms;

}  // namespace

WorkerStderr::WorkerStderr(std::uint32_t slots, std::size_t most) : most_(most), of_slot_(slots) {
  poller_.add(news_.descriptor(), kNews);
  thread_ = std::make_unique<ServiceThread>([this] { pass_on(); });
  while (started_.load() == 0) futex_wait({&started_, 0}, Deadline::never());
}

WorkerStderr::~WorkerStderr() {
  if (!thread_) return;
  stop_.store(true);
  news_.signal();
  thread_.reset();
}

void WorkerStderr::abandon() noexcept {
  if (thread_) thread_->abandon();
  thread_.reset();
}

Fd WorkerStderr::open(std::uint32_t slot) {
  BytePipe pipe = make_pipe();
  Fd in = std::move(pipe.in);
  const Lock lock(mutex_);
  const std::uint64_t key = next_++;
  const auto added = streams_.emplace(key, Stream{.pipe = std::move(pipe), .slot = slot}).first;
  try {
    poller_.add(added->second.pipe.out.get(), key);
  } catch (...) {
    streams_.erase(added);
    throw;
  }
  // Nobody asks for the end of the one before any more.
  if (const auto before = streams_.find(of_slot_[slot]); before != streams_.end()) {
    before->second.tail.clear();
    if (before->second.ended) streams_.erase(before);
  }
  of_slot_[slot] = key;
  return in;
}

std::string WorkerStderr::tail(std::uint32_t slot) {
  const Lock lock(mutex_);
  const auto found = streams_.find(of_slot_[slot]);
  if (found == streams_.end()) return {};
  read(found->second, kMostOfTheDead);
  if (!pending_.empty()) news_.signal();
  return found->second.tail;
}

void WorkerStderr::read(Stream& stream, std::size_t most) {
  std::array<char, kPiece> piece;  // NOLINT(cppcoreguidelines-pro-type-member-init): is read into
  for (std::size_t total = 0; total < most && !stream.ended;) {
    const auto count = read_some(stream.pipe.out.get(), std::as_writable_bytes(std::span(piece)));
    if (!count) return;
    if (*count == 0) {
      stream.ended = true;
      poller_.remove(stream.pipe.out.get());
      return;
    }
    total += *count;
    pending_.append(piece.data(), *count);
    stream.tail.append(piece.data(), *count);
    if (stream.tail.size() > most_) stream.tail.erase(0, stream.tail.size() - most_);
  }
}

// The thread: what has come is read and written, in turns, so that a worker which writes without
// end waits for whoever reads this process's stderr.
//
// SUBTLE: this process may fork at any time, and what a copy finds locked stays so, an allocator's
// lock too. So the thread does nothing outside of ServiceWork but wait and write, for which nothing
// is allocated; and the constructor returns when it has come so far.
void WorkerStderr::pass_on() {
  for (;;) {
    const bool last = stop_.load();
    if (last && end_.is_never()) end_ = Deadline::after(kEndPatience);
    started_.store(1);
    futex_wake_all(started_);
    static_cast<void>(
        wait_readable(poller_.descriptor(), last ? Deadline::now() : Deadline::never()));
    bool any = false;
    bool failed = false;
    {
      const Lock lock(mutex_);
      const ServiceWork work;
      try {
        any = read_ready();
      } catch (const std::exception& e) {
        static_cast<void>(e);  // no memory: what has not been read is there later, too
        failed = true;
      }
      out_.swap(pending_);
      pending_.clear();
    }
    write_out(out_);
    if (failed) std::this_thread::sleep_for(kLook);
    if (last && (!any || end_.passed())) return;
  }
}

bool WorkerStderr::read_ready() {
  const std::vector<std::uint64_t> ready = poller_.wait(Deadline::now());
  for (const std::uint64_t key : ready) {
    if (key == kNews) news_.clear();
    const auto found = streams_.find(key);
    if (found == streams_.end()) continue;
    read(found->second, kPiece);
    // The one in its slot is kept until its successor comes: its end may be asked for.
    if (found->second.ended && of_slot_[found->second.slot] != key) streams_.erase(found);
  }
  return !ready.empty();
}

void WorkerStderr::write_out(std::string_view text) {
  auto left = std::as_bytes(std::span(text));
  while (!left.empty() && !end_.passed()) {
    if (stop_.load() && end_.is_never()) end_ = Deadline::after(kEndPatience);
    if (!wait_writable(kStderr, end_.sooner(Deadline::after(kLook)))) continue;
    const auto count = write_piece(kStderr, left);
    if (!count) return;  // closed, or its disk is full: there is nobody to be told
    left = left.subspan(*count);
  }
}

}  // namespace brood::detail
