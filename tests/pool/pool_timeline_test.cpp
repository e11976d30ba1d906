// The timeline of a pool, read by another program.
// Not for ThreadSanitizer: processes.
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <brood/pipeline.hpp>

#include "pool_test_support.hpp"
#include "support/temp_dir.hpp"

namespace pool_timeline_test {
namespace {

using namespace std::chrono_literals;
using namespace brood::testing;
using brood::Future;
using brood::Pool;
using brood::StateError;
using brood::SystemError;

class PoolTimelineTest : public PoolTest {
 protected:
  TempDir dir_;
};
BROOD_UNDER_EVERY_START_METHOD(PoolTimelineTest);

/// What python3 says of the file: an error, or a line for each row, "row name: slices, items, what
/// happened", and at the end what was dropped. Slices of a row must be in order and apart.
std::string read_by_python(const std::string& path) {
  static constexpr const char* kScript = R"(
import json, sys
trace = json.load(open(sys.argv[1]))
rows, names, notes = {}, {}, {}
for event in trace['traceEvents']:
    row = event['tid']
    if event['ph'] == 'M' and event['name'] == 'thread_name':
        names[row] = event['args']['name']
    elif event['ph'] == 'X':
        rows.setdefault(row, []).append(event)
    elif event['ph'] == 'i':
        notes.setdefault(row, []).append(event['name'])
for row in sorted(names):
    slices = rows.get(row, [])
    for a, b in zip(slices, slices[1:]):
        assert a['ts'] + a['dur'] <= b['ts'] + 0.002, (a, b)
    assert all(s['dur'] >= 0 and s['ts'] >= 0 for s in slices)
    print(names[row] + ': %d slices, %d items' % (len(slices), sum(s['args']['items'] for s in slices)),
          *notes.get(row, []), sep=', ')
print(*sorted({s['name'] for r in rows.values() for s in r})[:12], sep='; ')
print('dropped', trace['otherData']['dropped'])
)";
  const TempDir dir;
  std::ofstream(dir.file("read.py")) << kScript;
  const std::string command = "python3 -B " + dir.file("read.py") + " '" + path + "' 2>&1";
  std::FILE* const pipe = ::popen(command.c_str(), "r");
  std::string said;
  std::array<char, 4096> buffer;
  while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    said.append(buffer.data(), got);
  }
  ::pclose(pipe);
  return said;
}

int nap(int n) {
  std::this_thread::sleep_for(1ms);
  if (n == 7) std::raise(SIGKILL);
  if (n == 9) {
    for (;;) asm volatile("");
  }
  return n;
}

TEST_P(PoolTimelineTest, ShowsWhatEachWorkerDidAndWhatBefellIt) {
  const std::string path = dir_.file("timeline.json");
  {
    Pool pool({.workers = 1, .name = "the \"only\" one", .timeline = path});
    pool.with({.chunk = 4}).map(nap, std::vector<int>{0, 1, 2, 3, 4, 5});
    EXPECT_EQ(pool.apply(nap, 3), 3);
    static_cast<void>(pool.with({.chunk = 1}).try_map(nap, std::vector<int>{1, 7, 2}));
    static_cast<void>(pool.with({.chunk = 1, .timeout = 100ms}).try_map(nap, std::vector<int>{9}));
    EXPECT_EQ(pool.apply(nap, 1), 1);
    pool.close();
    pool.join();
    const std::string said = read_by_python(path);
    EXPECT_EQ(said,
              "the \"only\" one-1: 8 slices, 12 items, killed by SIGKILL, stopped, ended\n"
              "item 0; item 0-3; item 1; item 2; item 4-5\n"
              "dropped 0\n");
    std::remove(path.c_str());
  }
  EXPECT_FALSE(std::ifstream(path).good()) << "it is written once";
}

TEST_P(PoolTimelineTest, IsWrittenAtAnyTimeAndByAnyEndOfThePool) {
  const std::string path = dir_.file("end.json");
  {
    Pool pool({.workers = 2, .timeline = path});
    std::vector<Future<int>> futures;
    for (int i = 0; i < 100; ++i) futures.push_back(pool.submit([](int n) { return n; }, i));
    for (int i = 0; i < 100; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i);
    pool.write_timeline(dir_.file("now.json"));
    const std::string said = read_by_python(dir_.file("now.json"));
    EXPECT_NE(said.find("brood-worker-2"), std::string::npos) << said;
    EXPECT_NE(said.find("dropped 0"), std::string::npos) << said;
  }
  const std::string said = read_by_python(path);
  EXPECT_NE(said.find("brood-worker-1"), std::string::npos) << said;
}

TEST_P(PoolTimelineTest, OfALongRunKeepsTheEnd) {
  Pool pool({.workers = 1, .timeline = dir_.file("long.json")});
  constexpr int kItems = 40'000;
  pool.with({.chunk = 1}).map([](int n) { return n; }, first_integers(kItems));
  pool.write_timeline(dir_.file("long.json"));
  const std::string said = read_by_python(dir_.file("long.json"));
  // One less where the worker may be writing.
  EXPECT_NE(said.find(": 16383 slices, 16383 items"), std::string::npos) << said;
  EXPECT_NE(said.find("dropped 23617"), std::string::npos) << said;
}

TEST_P(PoolTimelineTest, NamesTheStagesOfAPipeline) {
  Pool pool({.workers = 1, .timeline = dir_.file("stages.json")});
  int sum = 0;
  brood::pipeline()
      .source(std::views::iota(0, 3))
      .parallel([](int n) { return n + 1; }, {.name = "add", .pool = &pool})
      .in_order([&](int n) { sum += n; })
      .run();
  EXPECT_EQ(sum, 6);
  pool.write_timeline(dir_.file("stages.json"));
  const std::string said = read_by_python(dir_.file("stages.json"));
  EXPECT_NE(said.find("add "), std::string::npos) << said;

  const auto [odd, even] = std::pair([](int n) { return 2 * n + 1; }, [](int n) { return 2 * n; });
  brood::pipeline()
      .source(std::views::iota(0, 3))
      .parallel(odd, {.name = "odd"})
      .parallel(even, {.name = "even"})
      .in_order([&](int n) { sum += n; })
      .run({.workers = 1, .timeline = dir_.file("run.json")});
  EXPECT_EQ(sum, 6 + 18);
  const std::string both = read_by_python(dir_.file("run.json"));
  EXPECT_NE(both.find("odd + even "), std::string::npos) << both;
}

TEST_P(PoolTimelineTest, SaysWhatItCannotDo) {
  EXPECT_THROW(Pool({.workers = 1, .timeline = dir_.file("missing/file.json")}), SystemError);
  const Pool without({.workers = 1});
  EXPECT_THROW(without.write_timeline(dir_.file("x.json")), StateError);
  EXPECT_THROW(Pool({.workers = 0}).write_timeline(dir_.file("x.json")), StateError);
  const Pool pool({.workers = 1, .timeline = dir_.file("fine.json")});
  EXPECT_THROW(pool.write_timeline(dir_.file("missing/file.json")), SystemError);
  pool.write_timeline(dir_.file("fine.json"));
}

}  // namespace
}  // namespace pool_timeline_test
