#include <brood/channel/thunk.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <brood/errors.hpp>
#include <brood/platform/module.hpp>

namespace brood::detail::thunk_test {
namespace {

template <int N>
int number() {
  return N;
}
int plain() { return -1; }

using Number = int (*)();

int called(FunctionId id, ThunkKind kind) {
  return reinterpret_cast<Number>(resolve_thunk(id, kind))();
}

std::string failure(FunctionId id, ThunkKind kind) {
  try {
    resolve_thunk(id, kind);
  } catch (const UnknownFunction& error) {
    return error.what();
  }
  return "found";
}

constexpr const char* kChildVariable = "BROOD_TEST_RESOLVE_THUNK";

/// The other side of MeansTheSameWhenTheProgramIsExecutedAgain: says what it found, where.
class OtherProcess : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* text = std::getenv(kChildVariable);
    if (text == nullptr) return;
    FunctionId id;
    if (std::sscanf(text, "%lx:%lx", &id.module, &id.offset) != 2) std::_Exit(2);
    void* const address = resolve_thunk(id, ThunkKind::task);
    std::printf("found %d at %p\n", reinterpret_cast<Number>(address)(), address);
    std::fflush(stdout);
    std::_Exit(0);
  }
};
[[maybe_unused]] const auto* const other_process =
    ::testing::AddGlobalTestEnvironment(new OtherProcess);

TEST(Thunk, ResolvesToTheFunction) {
  EXPECT_EQ(called(thunk_id<&number<1>, ThunkKind::task>(), ThunkKind::task), 1);
  EXPECT_EQ(called(thunk_id<&number<2>, ThunkKind::map>(), ThunkKind::map), 2);
  EXPECT_EQ(called(thunk_id<&plain, ThunkKind::process>(), ThunkKind::process), -1);
}

TEST(Thunk, IdsAreConstantAndDifferent) {
  const FunctionId first = thunk_id<&number<1>, ThunkKind::task>();
  EXPECT_EQ(first, (thunk_id<&number<1>, ThunkKind::task>()));
  const FunctionId second = thunk_id<&number<3>, ThunkKind::task>();
  EXPECT_EQ(first.module, second.module);
  EXPECT_NE(first.offset, second.offset);
  EXPECT_NE(first.offset, 0U);
}

FunctionId never_called() { return thunk_id<&number<4>, ThunkKind::task>(); }

TEST(Thunk, IsInTheTableBeforeItsIdWasAskedFor) {
  const void* const address = reinterpret_cast<const void*>(&number<4>);
  const auto place = place_of(address);
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(called({place->module, place->offset}, ThunkKind::task), 4);
  EXPECT_EQ(never_called().offset, place->offset);
}

TEST(Thunk, OnlyWhatIsInTheTableIsFound) {
  const FunctionId id = thunk_id<&number<5>, ThunkKind::task>();
  EXPECT_NE(failure(id, ThunkKind::map).find("no map function at offset"), std::string::npos)
      << failure(id, ThunkKind::map);
  for (const std::uint64_t step : {1U, 2U, 4U, 16U}) {
    const std::string text = failure({id.module, id.offset + step * 1000003}, ThunkKind::task);
    EXPECT_NE(text.find("of this program"), std::string::npos) << text;
  }
  const auto place = place_of(reinterpret_cast<const void*>(&failure));
  ASSERT_TRUE(place.has_value());
  EXPECT_NE(failure({place->module, place->offset}, ThunkKind::task), "found")
      << "a function that is no thunk";
}

TEST(Thunk, UnknownModulesAreSaidToBe) {
  const FunctionId id = thunk_id<&number<5>, ThunkKind::task>();
  const std::string text = failure({id.module + 1, id.offset}, ThunkKind::task);
  EXPECT_NE(text.find("another build"), std::string::npos) << text;
}

TEST(Thunk, MeansTheSameWhenTheProgramIsExecutedAgain) {
  const FunctionId id = thunk_id<&number<6>, ThunkKind::task>();
  std::array<char, 200> command{};
  std::snprintf(command.data(), command.size(), "%s=%lx:%lx /proc/%d/exe --gtest_filter=Thunk.*",
                kChildVariable, id.module, id.offset, getpid());
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(popen(command.data(), "r"), pclose);
  ASSERT_NE(pipe, nullptr);
  std::string output;
  for (std::array<char, 200> line{}; std::fgets(line.data(), line.size(), pipe.get()) != nullptr;) {
    output += line.data();
  }
  EXPECT_NE(output.find("found 6 at 0x"), std::string::npos)
      << command.data() << ": " << output << "; here it is at "
      << resolve_thunk(id, ThunkKind::task);
}

TEST(Thunk, ManyThreadsMayResolveAtOnce) {
  const FunctionId id = thunk_id<&number<7>, ThunkKind::task>();
  std::vector<std::thread> threads;
  std::array<int, 4> sums{};
  for (int& sum : sums) {
    threads.emplace_back([&sum, id] {
      for (int i = 0; i < 1000; ++i) sum += called(id, ThunkKind::task);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sums, (std::array{7000, 7000, 7000, 7000}));
}

TEST(Module, TheProgramIsTheFirstAndHasABuildId) {
  const std::vector<Module> modules = loaded_modules();
  ASSERT_FALSE(modules.empty());
  EXPECT_TRUE(modules[0].path.empty()) << modules[0].path;
  EXPECT_TRUE(modules[0].has_build_id) << "link with --build-id, as brood::brood asks for";
  EXPECT_TRUE(modules[0].executes(reinterpret_cast<std::uintptr_t>(&plain)));
  for (std::size_t i = 1; i < modules.size(); ++i) {
    EXPECT_NE(modules[i].key, modules[0].key) << modules[i].path;
  }
}

TEST(Module, PlacesLeadBackToTheFunction) {
  // One in this program, one in a library.
  for (void* const address :
       {reinterpret_cast<void*>(&plain), reinterpret_cast<void*>(&std::atoi)}) {
    const auto place = place_of(address);
    ASSERT_TRUE(place.has_value()) << address;
    EXPECT_EQ(find_code(*place).address, address);
  }
}

TEST(Module, DataIsNoCode) {
  static int data = 0;
  EXPECT_FALSE(place_of(&data).has_value());
  EXPECT_FALSE(place_of(nullptr).has_value());
  const auto place = place_of(reinterpret_cast<void*>(&plain));
  ASSERT_TRUE(place.has_value());
  const FoundCode beyond = find_code({place->module, std::uint64_t{1} << 40U});
  EXPECT_EQ(beyond.address, nullptr);
  EXPECT_TRUE(beyond.module_is_loaded);
  EXPECT_FALSE(find_code({place->module + 1, place->offset}).module_is_loaded);
}

}  // namespace
}  // namespace brood::detail::thunk_test
