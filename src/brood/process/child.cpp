#include <brood/process/child.hpp>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <span>
#include <utility>

#include <brood/channel/codec.hpp>
#include <brood/channel/descriptor_box.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/platform/program.hpp>
#include <brood/process/family.hpp>

namespace brood::detail {
namespace {

Record* own_record = nullptr;

void run_nothing(ByteSource& /*source*/, void (* /*decoded*/)()) {}

void note_decoded() { own_record->started.store(1); }

void run_start_block(Family& family, const Record& record, std::vector<Fd> descriptors) {
  const std::byte* data = family.segment().checked(record.start_at, record.start_bytes);
  ByteSource source(std::span(data, record.start_bytes));
  const auto info = decode<StartInfo>(source);
  if (info.environment) set_environment(*info.environment);
  set_start_method(static_cast<StartMethod>(info.default_method));
  const auto thunk =
      reinterpret_cast<ProcessThunk>(resolve_thunk(info.function, ThunkKind::process));
  std::span<const std::byte> payload;
  if (info.payload_bytes > 0) {
    payload = {family.segment().checked(info.payload_at, info.payload_bytes), info.payload_bytes};
  }
  DescriptorInbox inbox(std::move(descriptors));
  ByteSource arguments(payload, &inbox);
  thunk(arguments, note_decoded);
}

}  // namespace

void warm_up() noexcept {
  try {
    // What every child does before it runs its function, done once by the process that they are
    // copies of: the tables are then there and the functions bound.
    VectorSink sink;
    encode(sink, StartInfo{});
    ByteSource source(sink.bytes());
    static_cast<void>(decode<StartInfo>(source));
    ErrorRecord error;
    run_catching([] {}, error);
    resolve_thunk(thunk_id<&run_nothing, ThunkKind::process>(), ThunkKind::process);
  } catch (const std::exception& e) {
    static_cast<void>(e);  // nothing depends on it
  }
}

void flush_standard_streams() noexcept {
  try {
    std::cout.flush();
    std::clog.flush();
  } catch (...) {
    // A stream that throws on a full disk: its own affair.
  }
  std::fflush(nullptr);
}

void run_child(Family& family, Tag tag, StartMethod method, std::vector<Fd> descriptors) {
  if (!family.become(tag)) exit_now(0);
  Registry& registry = family.registry();
  Record& record = registry.record(tag);
  const Tag parent = Tag::from_bits(record.parent);
  if (record.dies_with_parent != 0 && !registry.alive(parent)) exit_now(0);
  own_record = &record;
  note_exit_status(&record.own_code);
  const std::string name = registry.name(tag);
  set_thread_name(name.c_str());

  ErrorRecord error;
  int code = 0;
  if (!run_catching([&] { run_start_block(family, record, std::move(descriptors)); }, error)) {
    code = 1;
    flush_standard_streams();
    report_uncaught(2, name, current_pid(), error);
  }
  record.started.store(1);
  if (method == StartMethod::fork) {
    record.own_code.store(code);
    // What the parent had constructed is the parent's to destroy; what this child wrote is written.
    flush_standard_streams();
    exit_now(code);
  }
  std::exit(code);
}

}  // namespace brood::detail
