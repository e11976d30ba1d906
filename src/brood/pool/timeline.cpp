#include <brood/pool/timeline.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/round_up.hpp>
#include <brood/pool/control.hpp>

namespace brood::detail {
namespace {

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

File open(const std::string& path, const char* mode) {
  File file(std::fopen(path.c_str(), mode));
  if (!file) throw SystemError("fopen", fmt::format("the timeline {}", path), errno);
  return file;
}

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

double microseconds(std::int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1000; }

/// Rows are counted from 1: 0 is the pool's own.
std::uint32_t row_of(std::uint32_t slot) { return slot + 1; }

}  // namespace

Timeline::Timeline(Heap& heap, Segment& segment, std::uint32_t slots, std::string path,
                   std::string name)
    : heap_(heap),
      segment_(segment),
      path_(std::move(path)),
      name_(std::move(name)),
      slots_(slots),
      start_(steady_nanoseconds()) {
  open(path_, "a");  // better now than at the end of the run
  block_ = heap_.allocate(std::size_t{slots} * sizeof(TimelineRow) + alignof(TimelineRow));
  const std::uintptr_t address =
      round_up(reinterpret_cast<std::uintptr_t>(block_.data), alignof(TimelineRow));
  rows_ = reinterpret_cast<TimelineRow*>(address);
  for (std::uint32_t i = 0; i < slots; ++i) new (rows_ + i) TimelineRow{};
}

Timeline::~Timeline() { heap_.free(block_); }

std::uint64_t Timeline::at() const {
  return segment_.offset_of(reinterpret_cast<const std::byte*>(rows_));
}

void Timeline::label(std::uint64_t job, std::string text, std::uint64_t first) {
  if (labels_.size() < kMostNotes) labels_.emplace(job, Label{std::move(text), first});
}

void Timeline::note(std::uint32_t slot, std::string what) {
  if (notes_.size() < kMostNotes) {
    notes_.push_back({.slot = slot, .time = steady_nanoseconds(), .what = std::move(what)});
  }
}

void Timeline::ended(std::uint32_t slot) {
  TimelineRow& row = rows_[slot];
  const std::uint64_t job = row.open_job.exchange(0);
  if (job == 0 || lasts_.size() >= kMostNotes) return;
  const std::uint64_t items = row.open_items.load();
  lasts_.push_back({.slot = slot,
                    .slice = {.job = job,
                              .first = static_cast<std::uint32_t>(items),
                              .items = static_cast<std::uint32_t>(items >> 32U),
                              .begin = row.open_begin.load(),
                              .end = steady_nanoseconds()}});
}

void Timeline::put(std::string& out, std::uint32_t slot, const TimelineRow::Slice& slice) const {
  const auto found = labels_.find(slice.job);
  const std::string_view what =
      found != labels_.end() ? std::string_view(found->second.text) : std::string_view("item");
  const std::uint64_t first = slice.first + (found != labels_.end() ? found->second.first : 0);
  const std::string name = slice.items == 1
                               ? fmt::format("{} {}", what, first)
                               : fmt::format("{} {}-{}", what, first, first + slice.items - 1);
  fmt::format_to(std::back_inserter(out),
                 ",\n{{\"ph\":\"X\",\"pid\":{},\"tid\":{},\"ts\":{:.3f},\"dur\":{:.3f},\"name\":{},"
                 "\"args\":{{\"call\":{},\"first\":{},\"items\":{}}}}}",
                 current_pid(), row_of(slot), microseconds(slice.begin - start_),
                 microseconds(slice.end - slice.begin), in_quotes(name),
                 JobWord::sequence(slice.job), first, slice.items);
}

void Timeline::write(const std::string& path) const {
  std::string out = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[";
  const auto meta = [&](const char* what, std::uint32_t row, const std::string& name) {
    fmt::format_to(
        std::back_inserter(out),
        "{}\n{{\"ph\":\"M\",\"pid\":{},\"tid\":{},\"name\":\"{}\",\"args\":{{\"name\":{}}}}}",
        out.ends_with('[') ? "" : ",", current_pid(), row, what, in_quotes(name));
  };
  meta("process_name", 0, name_);
  for (std::uint32_t slot = 0; slot < slots_; ++slot) {
    meta("thread_name", row_of(slot), fmt::format("{}-{}", name_, slot + 1));
  }
  std::uint64_t dropped = 0;
  std::vector<Last> slices = lasts_;
  for (std::uint32_t slot = 0; slot < slots_; ++slot) {
    const TimelineRow& row = rows_[slot];
    // Pairs with the worker's release. It may be at work: what it writes over meanwhile is left
    // out.
    const std::uint64_t count = row.count.load(std::memory_order_acquire);
    std::uint64_t from = count - std::min(count, TimelineRow::kSlices);
    std::vector<TimelineRow::Slice> copies;
    for (std::uint64_t i = from; i != count; ++i) {
      copies.push_back(row.slices[i % TimelineRow::kSlices]);
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    // One more: the slice that it may be writing.
    const std::uint64_t now = row.count.load(std::memory_order_relaxed) + 1;
    const std::uint64_t whole = std::clamp(now - std::min(now, TimelineRow::kSlices), from, count);
    for (std::uint64_t i = whole; i != count; ++i) {
      slices.push_back({.slot = slot, .slice = copies[i - from]});
    }
    dropped += whole;
  }
  std::sort(slices.begin(), slices.end(), [](const Last& a, const Last& b) {
    return a.slot != b.slot ? a.slot < b.slot : a.slice.begin < b.slice.begin;
  });
  for (const Last& last : slices) put(out, last.slot, last.slice);
  for (const Note& note : notes_) {
    fmt::format_to(
        std::back_inserter(out),
        ",\n{{\"ph\":\"i\",\"s\":\"t\",\"pid\":{},\"tid\":{},\"ts\":{:.3f},\"name\":{}}}",
        current_pid(), row_of(note.slot), microseconds(note.time - start_), in_quotes(note.what));
  }
  out += fmt::format("\n],\"otherData\":{{\"slices\":\"{}\",\"dropped\":\"{}\"}}}}\n",
                     slices.size(), dropped);
  const File file = open(path, "w");
  if (std::fwrite(out.data(), 1, out.size(), file.get()) != out.size() ||
      std::fflush(file.get()) != 0) {
    throw SystemError("write", fmt::format("the timeline {}", path), errno);
  }
}

}  // namespace brood::detail
