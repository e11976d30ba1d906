#include <brood/process.hpp>

#include <array>
#include <csignal>
#include <utility>

#include <fmt/format.h>

namespace brood {

using detail::ChildProcess;
using detail::Deadline;
using detail::Family;
using detail::Tag;

namespace {

using namespace std::chrono_literals;

/// What a daemon gets to end after SIGTERM, before SIGKILL.
constexpr auto kGrace = 1s;

}  // namespace

void Process::make(std::shared_ptr<Family> family, const ProcessOptions& options,
                   detail::FunctionId function, detail::Block payload, std::size_t bytes,
                   std::vector<detail::Handle> kept, detail::DescriptorOutbox descriptors) {
  std::string name = options.name.empty() ? family->next_name("Process") : options.name;
  child_ = std::make_unique<ChildProcess>(std::move(family),
                                          detail::ChildSpec{.name = std::move(name),
                                                            .function = function,
                                                            .payload = payload,
                                                            .payload_bytes = bytes,
                                                            .kept = std::move(kept),
                                                            .descriptors = std::move(descriptors),
                                                            .role = detail::Role::process,
                                                            .dies_with_parent = options.daemon,
                                                            .method = options.start_method});
}

ChildProcess& Process::child(const char* call) const {
  if (!child_) throw StateError(fmt::format("{}: this process object is closed", call));
  return *child_;
}

void Process::end() noexcept {
  if (!child_ || !child_->made_here() || !child_->started()) return;
  try {
    if (child_->dies_with_parent()) {
      child_->signal(SIGTERM);
      if (!child_->join(Deadline::after(kGrace))) child_->signal(SIGKILL);
    }
    child_->join(Deadline::never());
  } catch (const Error& e) {
    static_cast<void>(e);  // a destructor has nobody to tell; the watchdog ends the child at last
  }
}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    end();
    child_ = std::move(other.child_);
  }
  return *this;
}

Process::~Process() { end(); }

Process& Process::start() {
  child("start").start();
  return *this;
}

void Process::join() { join_until(Deadline::never()); }

bool Process::join_until(Deadline deadline) { return child("join").join(deadline); }

bool Process::is_alive() const { return child("is_alive").alive(); }

std::optional<int> Process::exitcode() const { return child("exitcode").exit_code(); }

std::optional<int> Process::pid() const { return child("pid").pid(); }

const std::string& Process::name() const { return child("name").name(); }

void Process::set_name(std::string name) {
  ChildProcess& process = child("set_name");
  if (process.started()) throw StateError("set_name: the process has been started");
  process.rename(std::move(name));
}

bool Process::daemon() const { return child("daemon").dies_with_parent(); }

void Process::set_daemon(bool daemon) {
  ChildProcess& process = child("set_daemon");
  if (process.started()) throw StateError("set_daemon: the process has been started");
  process.set_dies_with_parent(daemon);
}

void Process::terminate() { child("terminate").signal(SIGTERM); }
void Process::kill() { child("kill").signal(SIGKILL); }
void Process::interrupt() { child("interrupt").signal(SIGINT); }

int Process::sentinel() const {
  const int fd = child("sentinel").sentinel();
  if (fd < 0) throw StateError(fmt::format("sentinel of process {}: start it first", name()));
  return fd;
}

void Process::close() {
  if (!child_) return;
  if (child_->made_here() && child_->alive()) {
    throw StateError(fmt::format("process {} is still running: join or kill it first", name()));
  }
  child_.reset();
}

ProcessRef::ProcessRef(Family& family, Tag tag)
    : tag_(tag),
      name_(family.registry().name(tag)),
      pid_(family.registry().record(tag).pid.load()),
      daemon_(family.registry().record(tag).dies_with_parent != 0) {}

bool ProcessRef::is_alive() const { return Family::require()->registry().expected(tag_); }

bool ProcessRef::join_until(Deadline deadline) const {
  const std::shared_ptr<Family> family = Family::require();
  detail::Registry& registry = family->registry();
  for (;;) {
    const Family::Glance glance = family->look();
    if (!registry.expected(tag_)) return true;
    if (deadline.passed()) return false;
    const std::array<detail::FutexWord, 2> words{
        detail::FutexWord{&registry.record(tag_).event, registry.record(tag_).event.load()},
        registry.life(tag_).watch()};
    // Its life word may have changed since: then the next look says so.
    if (!registry.expected(tag_)) return true;
    family->sleep(glance, words, deadline);
  }
}

ProcessRef current_process() {
  const std::shared_ptr<Family> family = Family::require();
  return {*family, family->self()};
}

std::optional<ProcessRef> parent_process() {
  const std::shared_ptr<Family> family = Family::require();
  const Tag parent = Tag::from_bits(family->registry().record(family->self()).parent);
  if (parent.none()) return std::nullopt;
  return ProcessRef(*family, parent);
}

std::vector<ProcessRef> active_children() {
  const std::shared_ptr<Family> family = Family::current();
  std::vector<ProcessRef> refs;
  if (!family) return refs;
  for (const Tag tag : family->children()) {
    if (family->registry().expected(tag)) refs.push_back(ProcessRef(*family, tag));
  }
  return refs;
}

}  // namespace brood
