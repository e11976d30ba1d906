// Layer: platform
#include <brood/platform/code_location.hpp>
#include <brood/platform/stack_trace.hpp>

#include <cxxabi.h>
#include <link.h>
#include <unwind.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace brood::detail {

namespace {

struct TraceWalk {
  std::uintptr_t* out;
  std::size_t skip;
  std::size_t size = 0;
};

_Unwind_Reason_Code trace_frame(_Unwind_Context* context, void* argument) {
  TraceWalk& walk = *static_cast<TraceWalk*>(argument);
  const std::uintptr_t address = _Unwind_GetIP(context);
  if (address == 0) return _URC_END_OF_STACK;
  if (walk.skip > 0) {
    --walk.skip;
    return _URC_NO_REASON;
  }
  if (walk.size == StackTrace::kMaxFrames) return _URC_END_OF_STACK;
  walk.out[walk.size++] = address;
  return _URC_NO_REASON;
}

// Lines of addresses seen before. Reading debug information takes milliseconds, and a task that
// fails for every second item comes from the same place each time.
struct Cache {
  static constexpr std::size_t kMaxLines = 4096;

  std::mutex mutex;
  std::unordered_map<std::uintptr_t, CodeLocation> frames;
  unsigned long long unloads = 0;  // modules ever unloaded: then other code may be at an address
};

Cache& cache() {
  static auto* const instance = new Cache;  // never destroyed: exceptions come at exit, too
  return *instance;
}

unsigned long long count_unloads() {
  unsigned long long unloads = 0;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<unsigned long long*>(out) = info->dlpi_subs;
        return 1;  // every call reports the same count
      },
      &unloads);
  return unloads;
}

std::vector<CodeLocation> look_up(std::span<const std::uintptr_t> instructions) {
  Cache& known = cache();
  // NOTE: in a child forked while another thread held the lock it is never released. Then, and
  // while another thread is at it, do without the cache rather than wait.
  std::unique_lock lock(known.mutex, std::try_to_lock);
  if (!lock.owns_lock()) return locate_code(instructions);
  if (const auto unloads = count_unloads(); unloads != known.unloads) {
    known.frames.clear();
    known.unloads = unloads;
  }
  std::vector<std::uintptr_t> unknown;
  for (const std::uintptr_t address : instructions) {
    if (!known.frames.contains(address)) unknown.push_back(address);
  }
  if (known.frames.size() + unknown.size() > Cache::kMaxLines) {
    known.frames.clear();
    unknown.assign(instructions.begin(), instructions.end());
  }
  std::vector<CodeLocation> fresh;
  if (!unknown.empty()) fresh = locate_code(unknown);

  std::vector<CodeLocation> frames;
  frames.reserve(instructions.size());
  for (const std::uintptr_t address : instructions) {
    const auto at = std::find(unknown.begin(), unknown.end(), address) - unknown.begin();
    const bool is_fresh = static_cast<std::size_t>(at) < unknown.size();
    frames.push_back(is_fresh ? fresh[static_cast<std::size_t>(at)] : known.frames.at(address));
  }
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    if (!fresh[i].provisional) known.frames.insert_or_assign(unknown[i], std::move(fresh[i]));
  }
  return frames;
}

// Where a throw enters the runtime; everything further in is the runtime looking for a handler.
bool begins_a_throw(std::string_view function) {
  static constexpr std::string_view kNames[] = {
      "__cxa_throw",
      "__cxa_rethrow",
      "__cxa_rethrow_primary_exception",
      "std::rethrow_exception(std::__exception_ptr::exception_ptr)",
      "_Unwind_RaiseException",
      "_Unwind_Resume_or_Rethrow",
      // The sanitizers' runtimes stand before the real ones.
      "__interceptor___cxa_throw",
      "__interceptor___cxa_rethrow",
      "__interceptor___cxa_rethrow_primary_exception",
      "__interceptor__Unwind_RaiseException",
  };
  return std::find(std::begin(kNames), std::end(kNames), function) != std::end(kNames);
}

// The standard library throws from functions of its own, which say nothing. Their unlikely parts
// have no exported name.
bool throws_for_the_library(const CodeLocation& frame) {
  return frame.function.starts_with("std::__throw_") ||
         (frame.function.empty() && frame.module.starts_with("libstdc++."));
}

std::size_t runtime_frames(const std::vector<CodeLocation>& frames) {
  // The runtime needs five or six frames, with sanitizers a few more.
  static constexpr std::size_t kDeepest = 12;
  std::size_t count = 0;
  for (std::size_t i = 0; i < std::min(frames.size(), kDeepest); ++i) {
    if (begins_a_throw(frames[i].function)) count = i + 1;
  }
  while (count > 0 && count < frames.size() && throws_for_the_library(frames[count])) {
    ++count;
  }
  return count < frames.size() ? count : 0;
}

}  // namespace

StackTrace::StackTrace(std::span<const std::uintptr_t> addresses, bool first_is_exact) noexcept
    : size_(std::min(addresses.size(), kMaxFrames)), first_is_exact_(first_is_exact) {
  std::copy_n(addresses.begin(), size_, addresses_.begin());
}

[[gnu::noinline]] StackTrace StackTrace::here(std::size_t skip) noexcept {
  StackTrace trace;
  TraceWalk walk{.out = trace.addresses_.data(), .skip = skip + 1};
  _Unwind_Backtrace(&trace_frame, &walk);
  trace.size_ = walk.size;
  return trace;
}

std::vector<std::string> symbolize(const StackTrace& trace) noexcept {
  std::vector<std::string> lines;
  try {
    // A return address belongs to the instruction after the call, which can be that of another
    // line, or even of another function. One byte less is inside the call.
    std::vector<std::uintptr_t> instructions;
    for (const std::uintptr_t address : trace.addresses()) {
      const bool exact = trace.first_is_exact() && instructions.empty();
      instructions.push_back(exact ? address : address - 1);
    }
    const std::vector<CodeLocation> frames = look_up(instructions);
    for (std::size_t i = runtime_frames(frames); i < frames.size(); ++i) {
      lines.push_back(frames[i].line());
    }
  } catch (...) {  // out of memory: what there is must do
  }
  return lines;
}

std::string demangle(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> readable(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
  return status == 0 && readable ? readable.get() : name;
}

}  // namespace brood::detail
