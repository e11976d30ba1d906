#include <brood/pool/crash_board.hpp>

#include <csignal>
#include <memory>
#include <new>
#include <utility>

#include <fmt/format.h>

namespace brood::detail {

CrashBoard::CrashBoard(std::shared_ptr<Family> family, std::uint32_t slots)
    : family_(std::move(family)),
      creator_(family_->self()),
      block_(family_->heap().allocate(slots * sizeof(CrashNote))) {
  for (std::uint32_t i = 0; i < slots; ++i) {
    (new (notes() + i) CrashNote)->clear();  // the rest is written before it is read
  }
}

CrashBoard::~CrashBoard() {
  if (creator_ == family_->self()) family_->heap().free(block_);
}

std::uint64_t CrashBoard::prepare(std::uint32_t slot) noexcept {
  notes()[slot].clear();
  return family_->segment().offset_of(notes() + slot);
}

Crash CrashBoard::examine(std::uint32_t slot, ChildProcess& process) {
  const ExitCode code = process.exit_code().value_or(255);
  Crash crash{.worker = process.name(),
              .pid = process.pid().value_or(0),
              .signal = code < 0 ? -code : 0,
              .exit_code = code < 0 ? 0 : code};
  crash.usage = process.usage();
  if (crash.signal == 0) return crash;
  if (crash.signal == SIGKILL) crash.out_of_memory = oom_.has_killed();
  if (auto data = read(notes()[slot], crash.pid, crash.signal)) {
    crash.address = data->address;
    crash.reason = describe_signal_code(data->signal, data->code);
    if (data->system_call >= 0) crash.reason += fmt::format(", number {}", data->system_call);
    crash.raw_stack = std::make_shared<const CrashData>(std::move(*data));
  }
  return crash;
}

void leave_crash_note_at(Segment& segment, std::uint64_t place) {
  leave_crash_note_in(*reinterpret_cast<CrashNote*>(segment.checked(place, sizeof(CrashNote))));
}

}  // namespace brood::detail
