// What a block of shared memory costs: Heap beside malloc, which gives private memory, and beside
// Boost.Interprocess' managed segment, which gives shared memory under one lock.
//
// pairs: allocate 64 bytes, write to them, free them. batches: allocate 1000 blocks, write to
// each, then free them in another order. mixed: the same with sizes of 16 bytes to 2 KiB. Two
// processes: the other does the same all the time, in the same memory.
#include <benchmark/benchmark.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/interprocess/managed_external_buffer.hpp>
#include <brood/memory/heap.hpp>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <random>
#include <system_error>
#include <vector>

#include "support/ratio.hpp"

namespace {

using brood::detail::Block;
using brood::detail::Heap;
using brood::detail::Segment;
using brood::detail::SharedOwner;
using brood::detail::Tag;

constexpr std::size_t kBatch = 1000;
constexpr std::size_t kBytes = 64;

// An order that has nothing to do with that of allocation, and sizes.
struct Pattern {
  Pattern() {
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(7);
    std::shuffle(order.begin(), order.end(), random);
    for (std::size_t& size : mixed) size = std::size_t{16} << random() % 8;
    fixed.fill(kBytes);
  }
  std::array<std::size_t, kBatch> order;
  std::array<std::size_t, kBatch> fixed;
  std::array<std::size_t, kBatch> mixed;
};
const Pattern kPattern;

struct Malloc {
  using Piece = void*;
  Piece allocate(std::size_t bytes) { return std::malloc(bytes); }
  void free(Piece piece) { std::free(piece); }
  static void* data(Piece piece) { return piece; }
};

struct Brood {
  using Piece = Block;
  Brood(Segment& segment, std::uint32_t process) : heap(segment, Tag(process, 1)) {}
  Piece allocate(std::size_t bytes) { return heap.allocate(bytes); }
  void free(Piece piece) { heap.free(piece); }
  static void* data(Piece piece) { return piece.data; }
  Heap heap;
};

struct Boost {
  using Piece = void*;
  using Managed = boost::interprocess::basic_managed_external_buffer<
      char, boost::interprocess::rbtree_best_fit<boost::interprocess::mutex_family>,
      boost::interprocess::iset_index>;
  Piece allocate(std::size_t bytes) { return managed.allocate(bytes); }
  void free(Piece piece) { managed.deallocate(piece); }
  static void* data(Piece piece) { return piece; }
  Managed& managed;
};

template <class Allocator>
void pair(Allocator& allocator) {
  auto piece = allocator.allocate(kBytes);
  benchmark::DoNotOptimize(*static_cast<char*>(Allocator::data(piece)) = 1);
  allocator.free(piece);
}

template <class Allocator>
void batch(Allocator& allocator, const std::array<std::size_t, kBatch>& sizes) {
  static std::array<typename Allocator::Piece, kBatch> pieces;
  for (std::size_t i = 0; i < kBatch; ++i) {
    pieces[i] = allocator.allocate(sizes[i]);
    benchmark::DoNotOptimize(*static_cast<char*>(Allocator::data(pieces[i])) = 1);
  }
  for (const std::size_t i : kPattern.order) allocator.free(pieces[i]);
}

enum class Shape { pairs, batches, mixed };

template <class Allocator>
void work(Allocator& allocator, Shape shape) {
  switch (shape) {
    case Shape::pairs:
      for (std::size_t i = 0; i < kBatch; ++i) pair(allocator);
      break;
    case Shape::batches:
      batch(allocator, kPattern.fixed);
      break;
    case Shape::mixed:
      batch(allocator, kPattern.mixed);
      break;
  }
}

template <class Allocator>
void measure(benchmark::State& state, Allocator& allocator, Shape shape) {
  work(allocator, shape);
  for (auto _ : state) work(allocator, shape);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}

// Another process that works until it is killed, and has begun when the constructor is done.
class Rival {
 public:
  template <class Work>
  explicit Rival(Work work) {
    auto* const begun = static_cast<std::atomic<bool>*>(
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    pid_ = ::fork();
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      work([&] { begun->store(true); });
    }
    while (!begun->load()) continue;
    ::munmap(begun, 4096);
  }
  Rival(const Rival&) = delete;
  Rival& operator=(const Rival&) = delete;
  ~Rival() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_;
};

template <class Begun, class Allocator>
[[noreturn]] void go_on(const Begun& begun, Allocator& allocator, Shape shape) {
  work(allocator, shape);
  begun();
  for (;;) work(allocator, shape);
}

void with_malloc(benchmark::State& state, Shape shape) {
  Malloc allocator;
  measure(state, allocator, shape);
}

void with_heap(benchmark::State& state, Shape shape, bool two) {
  Segment segment = Segment::create();
  std::optional<Rival> rival;
  if (two) {
    rival.emplace([&](const auto& begun) {
      Brood other(segment, 2);
      go_on(begun, other, shape);
    });
  }
  Brood mine(segment, 1);
  measure(state, mine, shape);
}

void with_boost(benchmark::State& state, Shape shape, bool two) {
  constexpr std::size_t kSegment = std::size_t{64} << 20U;
  void* const memory =
      ::mmap(nullptr, kSegment, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  {
    Boost::Managed managed(boost::interprocess::create_only, memory, kSegment);
    Boost mine{managed};
    std::optional<Rival> rival;
    // NOTE: a rival killed while it holds the lock leaves it held. So nothing is done to the
    // memory after that, but to unmap it.
    if (two) rival.emplace([&](const auto& begun) { go_on(begun, mine, shape); });
    measure(state, mine, shape);
  }
  ::munmap(memory, kSegment);
}

// A block that is given away and freed on behalf of its object, by the same process.
void given(benchmark::State& state) {
  Segment segment = Segment::create();
  Heap heap(segment, Tag(1, 1));
  std::array<std::uint64_t, kBatch> places{};
  for (auto _ : state) {
    for (std::uint64_t& place : places) {
      const Block block = heap.allocate(kBytes);
      *block.data = std::byte{1};
      place = segment.offset_of(block.data);
      heap.give(block, SharedOwner{7});
    }
    for (const std::size_t i : kPattern.order) heap.free_shared(places[i], SharedOwner{7});
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<bench::Row> rows;
  const auto add = [](const std::string& name, auto function) {
    benchmark::RegisterBenchmark(name.c_str(), function)->UseRealTime();
  };
  const std::pair<const char*, Shape> shapes[] = {
      {"pairs", Shape::pairs}, {"batches", Shape::batches}, {"mixed", Shape::mixed}};
  for (const auto& [name, shape] : shapes) {
    const std::string suffix = std::string("/") + name;
    add("malloc" + suffix, [shape = shape](benchmark::State& s) { with_malloc(s, shape); });
    add("heap" + suffix, [shape = shape](benchmark::State& s) { with_heap(s, shape, false); });
    add("boost" + suffix, [shape = shape](benchmark::State& s) { with_boost(s, shape, false); });
    add("heap_two" + suffix, [shape = shape](benchmark::State& s) { with_heap(s, shape, true); });
    add("boost_two" + suffix, [shape = shape](benchmark::State& s) { with_boost(s, shape, true); });
    rows.push_back({.what = "one process, " + std::string(name) + ", beside malloc",
                    .ours = "heap" + suffix,
                    .beside = "malloc" + suffix,
                    .target = 2.0});
    rows.push_back({.what = "one process, " + std::string(name) + ", beside Boost.Interprocess",
                    .ours = "heap" + suffix,
                    .beside = "boost" + suffix,
                    .judged = bench::Judged::for_information});
    rows.push_back({.what = "two processes, " + std::string(name) + ", beside Boost.Interprocess",
                    .ours = "heap_two" + suffix,
                    .beside = "boost_two" + suffix,
                    .target = 0.2});
  }
  add("given", given);
  rows.push_back({.what = "given away and freed, batches, beside malloc",
                  .ours = "given",
                  .beside = "malloc/batches",
                  .judged = bench::Judged::for_information});
  return bench::run(argc, argv, rows);
}
