#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <brood/errors.hpp>
#include <brood/memory/segment.hpp>
#include <brood/platform/process_handle.hpp>
#include <brood/platform/program.hpp>

#include "support/forked.hpp"
#include "support/sandbox.hpp"
#include "support/sanitizers.hpp"
#include "support/start_methods.hpp"

namespace brood::detail::segment_test {
namespace {

using namespace brood::testing;

constexpr std::size_t kMiB = std::size_t{1} << 20U;
constexpr Tag kMe(1, 1);

TEST(Segment, IsLargeAndSparse) {
  Segment segment = Segment::create();
  EXPECT_EQ(segment.header().magic, SegmentHeader::kMagic);
  EXPECT_EQ(segment.header().bytes, segment.size());
  EXPECT_EQ(segment.header().root_pid, static_cast<std::uint32_t>(current_pid()));
  EXPECT_EQ(segment.header().death_epoch.load(), 0U);
  EXPECT_TRUE(Tag::from_bits(segment.header().root.load()).none());
  EXPECT_EQ(segment.extents().used_bytes(), 0U);
  EXPECT_GT(segment.extents().total_bytes(), segment.size() / 10 * 9);
  EXPECT_LE(segment.extents().total_bytes(), segment.size());
  EXPECT_EQ(file_size(segment.file()), segment.size());
  segment.registry().for_each(
      [](Tag tag, const RecordWord&) { ADD_FAILURE() << "record " << tag.slot() << " is in use"; });
}

TEST(Segment, CanBeLookedAtWithoutBeingWrittenTo) {
  Segment segment = Segment::create();
  const Tag tag = segment.registry().reserve(Tag(), Role::root, "main");
  segment.wait_note(tag).at.store(17);
  const std::string path = "/proc/self/fd/" + std::to_string(segment.file().get());
  const auto open_to_read = [&] { return Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)); };

  Segment seen = Segment::look_at(open_to_read());
  EXPECT_EQ(seen.header().bytes, segment.size());
  EXPECT_EQ(seen.registry().name(tag), "main");
  EXPECT_EQ(seen.wait_note(tag).at.load(), 17U);
  EXPECT_EQ(seen.extents().used_bytes(), 0U);
  if (!kAddressSanitizer && !kThreadSanitizer) {  // these have handlers of their own
    EXPECT_EQ(exit_code_of([&] { announce(seen.header()); }), -SIGSEGV);
  }
  ++segment.header().layout_version;
  EXPECT_THROW(Segment::look_at(open_to_read()), DecodeError);
  EXPECT_THROW(Segment::look_at(create_memory_file("other", kMiB)), DecodeError);
}

TEST(Segment, WaitNotesHaveAPlaceForEveryTag) {
  Segment segment = Segment::create();
  const Tag last(Tag::kSlots - 1, 1);
  segment.wait_note(last).at.store(5);
  EXPECT_EQ(segment.wait_note(kMe).at.load(), 0U);
  EXPECT_EQ(segment.names().size(), 0U) << "what lies behind them is not touched";
  EXPECT_LE(segment.offset_of(&segment.wait_note(last) + 1), segment.header().directory_at);
}

TEST(Segment, PartsDoNotOverlap) {
  Segment segment = Segment::create();
  const SegmentHeader& header = segment.header();
  EXPECT_GE(header.lives_at, sizeof(SegmentHeader));
  EXPECT_EQ(header.lives_at % page_size(), 0U) << "life words have pages of their own";
  EXPECT_GE(header.records_at, header.lives_at + Registry::kSlots * sizeof(Life));
  EXPECT_EQ(header.records_at % page_size(), 0U);
  EXPECT_GE(header.directory_at, header.records_at + Registry::kSlots * sizeof(Record));
  const std::size_t granules = segment.extents().total_bytes() / header.granule_bytes;
  EXPECT_GE(header.data_at, header.directory_at + granules * sizeof(std::uint64_t));
  EXPECT_EQ(header.data_at % header.granule_bytes, 0U);
  // All of the data can be had, and neither begins nor ends elsewhere.
  const Extent all = segment.extents().allocate(segment.extents().total_bytes(), kMe, 0);
  EXPECT_EQ(segment.offset_of(all.data), header.data_at);
  EXPECT_LE(segment.offset_of(all.data) + all.bytes, segment.size());
  all.data[0] = all.data[all.bytes - 1] = std::byte{1};
  segment.extents().release(all, kMe, 0, true);
}

TEST(Segment, IsTheSameInAnotherMapping) {
  Segment here = Segment::create();
  Segment there = Segment::attach(duplicate(here.file().get()));
  EXPECT_NE(&here.header(), &there.header());
  EXPECT_EQ(here.size(), there.size());
  const Tag tag = here.registry().reserve(kMe, Role::process, "one");
  EXPECT_EQ(there.registry().name(tag), "one");
  const Extent extent = here.extents().allocate(1, tag, 0);
  extent.data[17] = std::byte{42};
  EXPECT_EQ(there.extents().used_bytes(tag), extent.bytes);
  EXPECT_EQ(there.at(here.offset_of(extent.data))[17], std::byte{42});
  here.extents().release(extent, tag, 0, true);
}

TEST(Segment, IsTheSameInAnotherProcess) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  Segment segment = Segment::create();
  const Tag tag = segment.registry().reserve(kMe, Role::process, "child");
  const Extent extent = segment.extents().allocate(1, kMe, 0);
  const std::uint64_t offset = segment.offset_of(extent.data);
  const Gate joined;
  Forked child([&] {
    static Segment own = Segment::attach(duplicate(segment.file().get()));
    ASSERT_TRUE(own.registry().join(tag, current_pid()));
    std::memcpy(own.checked(offset, 6), "hello", 6);
    announce(own.header());
    joined.open();
    for (;;) ::pause();
  });
  ASSERT_TRUE(joined.pass());
  EXPECT_TRUE(segment.registry().alive(tag));
  EXPECT_STREQ(reinterpret_cast<const char*>(extent.data), "hello");
  EXPECT_EQ(segment.header().death_epoch.load(), 1U);
  child.kill();
  EXPECT_FALSE(segment.registry().alive(tag));
}

TEST(Segment, AnnouncingWakesAllThatSleep) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  const Segment segment = Segment::create();
  std::vector<Forked> sleepers;
  for (int i = 0; i < 3; ++i) {
    sleepers.emplace_back([&] {
      EXPECT_NE(futex_wait({&segment.header().death_epoch, 0}, patience()), FutexWake::timed_out);
      EXPECT_EQ(segment.header().death_epoch.load(), 1U);
    });
  }
  for (const Forked& sleeper : sleepers) ASSERT_TRUE(await_state(sleeper.pid(), 'S'));
  announce(segment.header());
  for (Forked& sleeper : sleepers) EXPECT_EQ(sleeper.wait(), 0);
}

TEST(Segment, OffsetsFromElsewhereAreChecked) {
  const Segment segment = Segment::create();
  const std::uint64_t first = segment.header().data_at;
  const std::uint64_t size = segment.size();
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  for (const auto& [offset, bytes] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {first, 0}, {first, 1}, {first, size - first}, {size - 1, 1}, {size, 0}}) {
    EXPECT_EQ(segment.checked(offset, bytes), segment.at(offset)) << offset << " +" << bytes;
  }
  for (const auto& [offset, bytes] :
       std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 1},
                                                            {first - 1, 1},
                                                            {first, size - first + 1},
                                                            {size, 1},
                                                            {size + 1, 0},
                                                            {first, kMax},
                                                            {kMax, 1},
                                                            {kMax, kMax},
                                                            {first + 1, kMax - first},
                                                            {kMax - 10, 20},
                                                            {size - 1, kMax}}) {
    try {
      static_cast<void>(segment.checked(offset, bytes));
      ADD_FAILURE() << offset << " +" << bytes << " was let in";
    } catch (const DecodeError& e) {
      EXPECT_NE(std::string(e.what()).find(std::to_string(offset)), std::string::npos) << e.what();
    }
  }
}

/// Attaches to a copy of a good header that `damage` changed.
void attach_damaged(const std::function<void(SegmentHeader&)>& damage) {
  const Segment good = Segment::create();
  Fd file = create_memory_file("damaged", good.size());
  {
    const Mapping page(file, page_size());
    std::memcpy(page.data(), static_cast<const void*>(&good.header()), sizeof(SegmentHeader));
    damage(*reinterpret_cast<SegmentHeader*>(page.data()));
  }
  Segment segment = Segment::attach(std::move(file));
  // It was let in, so it must work.
  const Extent extent = segment.extents().allocate(segment.extents().total_bytes(), kMe, 0);
  extent.data[0] = extent.data[extent.bytes - 1] = std::byte{1};
  segment.extents().release(extent, kMe, 0, true);
  ASSERT_EQ(segment.extents().used_bytes(), 0U);
  ASSERT_EQ(segment.registry().reserve(kMe, Role::process, "x"), Tag(0, 1));
}

TEST(SegmentDamage, AGoodHeaderIsLetIn) {
  attach_damaged([](SegmentHeader&) {});
}

TEST(SegmentDamage, EachFieldIsChecked) {
  const struct {
    const char* name;
    std::uint64_t SegmentHeader::*field;
  } kFields[] = {{"magic", &SegmentHeader::magic},
                 {"bytes", &SegmentHeader::bytes},
                 {"lives_at", &SegmentHeader::lives_at},
                 {"records_at", &SegmentHeader::records_at},
                 {"directory_at", &SegmentHeader::directory_at},
                 {"data_at", &SegmentHeader::data_at},
                 {"granule_bytes", &SegmentHeader::granule_bytes}};
  for (const auto& [name, field] : kFields) {
    for (const auto& damage : std::vector<std::function<std::uint64_t(std::uint64_t)>>{
             [](std::uint64_t) { return 0; }, [](std::uint64_t) { return 1; },
             [](std::uint64_t) { return std::numeric_limits<std::uint64_t>::max(); },
             [](std::uint64_t v) { return v + 1; }, [](std::uint64_t v) { return v - 1; },
             [](std::uint64_t v) { return v + 4096; }, [](std::uint64_t v) { return v - 4096; },
             [](std::uint64_t v) { return v * 2; }, [](std::uint64_t v) { return v / 2; },
             [](std::uint64_t v) { return v | std::uint64_t{1} << 63U; }}) {
      std::uint64_t value = 0;
      EXPECT_THROW(attach_damaged([&, at = field](SegmentHeader& header) {
                     value = header.*at = damage(header.*at);
                   }),
                   DecodeError)
          << name << " was " << value;
    }
  }
}

TEST(SegmentDamage, AnotherLayoutIsRefused) {
  try {
    attach_damaged([](SegmentHeader& header) { ++header.layout_version; });
    ADD_FAILURE() << "let in";
  } catch (const DecodeError& e) {
    EXPECT_NE(std::string(e.what()).find("layout"), std::string::npos) << e.what();
  }
}

// What changes while the family runs may be anything.
TEST(SegmentDamage, TheMarkDoesNotLeadOutside) {
  attach_damaged([](SegmentHeader& header) {
    header.high_water.store(std::numeric_limits<std::uint64_t>::max());
    header.root.store(std::numeric_limits<std::uint32_t>::max());
    header.watchdog.store(std::numeric_limits<std::uint32_t>::max());
    header.death_epoch.store(std::numeric_limits<std::uint32_t>::max());
  });
}

TEST(SegmentDamage, WhatIsNoSegmentIsRefused) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, page_size() - 1, page_size(),
                                  kMiB, 16 * kMiB, 16 * kMiB + 1}) {
    EXPECT_THROW(Segment::attach(create_memory_file("none", bytes)), DecodeError) << bytes;
  }
  EXPECT_THROW(Segment::attach(Fd(::open("/dev/null", O_RDWR | O_CLOEXEC))), Error);
  EXPECT_THROW(Segment::attach(Fd()), SystemError);
}

TEST(SegmentDamage, TheHeaderIsNotTrustedLater) {
  Segment segment = Segment::create();
  Segment::attach(duplicate(segment.file().get())).header().data_at = 0;
  EXPECT_THROW(static_cast<void>(segment.checked(0, 8)), DecodeError);
}

// --- Little address space ------------------------------------------------------------------------

class SegmentLimits : public ::testing::Test {
 protected:
  void SetUp() override {
    if (kThreadSanitizer || kAddressSanitizer) {
      GTEST_SKIP() << "sanitizers need more address space than there is";
    }
  }
  static void limit(decltype(RLIMIT_AS) resource, std::size_t bytes) {
    const rlimit value{.rlim_cur = bytes, .rlim_max = bytes};
    ASSERT_EQ(::setrlimit(resource, &value), 0);
  }
  static std::size_t mapped_bytes() {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * page_size();
  }
  /// It works, and most of what is allowed is left to the program.
  static void expect_works(std::size_t allowed) {
    Segment segment = Segment::create();
    EXPECT_LE(segment.size(), allowed / 4);
    EXPECT_GE(segment.size(), 16 * kMiB);
    const Extent extent = segment.extents().allocate(8 * kMiB, kMe, 0);
    ASSERT_TRUE(populate_pages(extent.data, extent.bytes));
    EXPECT_TRUE(segment.registry().join(segment.registry().reserve(kMe, Role::root, "x"), 1));
    segment.registry().leave(Tag(0, 1));
  }
};

TEST_F(SegmentLimits, WorksInLittleAddressSpace) {
  for (const std::size_t allowed : {4096 * kMiB, 512 * kMiB, 128 * kMiB}) {
    if (mapped_bytes() + allowed / 3 > allowed) continue;  // the test itself needs too much
    in_child([&] {
      limit(RLIMIT_AS, allowed);
      expect_works(allowed);
    });
  }
}

TEST_F(SegmentLimits, TakesTheLeastWhenThereIsNoMore) {
  in_child([&] {
    limit(RLIMIT_AS, mapped_bytes() + 24 * kMiB);
    EXPECT_EQ(Segment::create().size(), 16 * kMiB);
  });
}

TEST_F(SegmentLimits, SaysWhenItIsImpossible) {
  in_child([&] {
    limit(RLIMIT_AS, mapped_bytes() + 4 * kMiB);
    try {
      const Segment segment = Segment::create();
      ADD_FAILURE() << "made one of " << segment.size() << " bytes";
    } catch (const SystemError& e) {
      EXPECT_EQ(e.code(), std::errc::not_enough_memory);
      EXPECT_NE(std::string(e.what()).find("ulimit -v"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("16 MiB"), std::string::npos) << e.what();
    }
  });
}

TEST_F(SegmentLimits, ALimitOnFileSizesIsRespected) {
  in_child([&] {
    limit(RLIMIT_FSIZE, 100 * kMiB);
    EXPECT_EQ(Segment::create().size(), 64 * kMiB);
  });
  in_child([&] {
    limit(RLIMIT_FSIZE, 10 * kMiB);
    try {
      const Segment segment = Segment::create();
      ADD_FAILURE() << "made one of " << segment.size() << " bytes";
    } catch (const SystemError& e) {
      EXPECT_NE(std::string(e.what()).find("ulimit -f"), std::string::npos) << e.what();
    }
  });
}

TEST(SegmentMemory, AMachineWithoutMemorySaysSo) {
  if (kThreadSanitizer) GTEST_SKIP() << "processes are not for ThreadSanitizer";
  static constexpr std::uint32_t kPopulateWrite = 23;
  in_child([] {
    forbid_system_call(SYS_madvise, EFAULT, kPopulateWrite);
    try {
      const Segment segment = Segment::create();
      ADD_FAILURE() << "made one";
    } catch (const SystemError& e) {
      EXPECT_EQ(e.code(), std::errc::not_enough_memory) << e.what();
    }
  });
  in_child([] {  // a kernel that cannot do that
    forbid_system_call(SYS_madvise, EINVAL, kPopulateWrite);
    EXPECT_GT(Segment::create().size(), 0U);
  });
}

}  // namespace
}  // namespace brood::detail::segment_test
