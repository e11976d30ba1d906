#include <brood/bind.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include <brood/channel/callable.hpp>
#include <brood/channel/codec.hpp>

#include "round_trip.hpp"

namespace brood::detail::bind_test {
namespace {

using namespace std::chrono_literals;

double scaled(double by, double x) { return by * x; }
std::string joined(const std::string& a, std::string_view b, std::chrono::milliseconds c) {
  return a + std::string(b) + std::to_string(c.count());
}

struct Model {
  std::vector<double> weights;
  [[nodiscard]] double at(std::size_t index, double by) const { return weights.at(index) * by; }
};

TEST(Bind, ValuesComeFirst) {
  const auto bound = round_trip(brood::bind(scaled, 2.5));
  EXPECT_EQ(bound(4.0), 10.0);
  EXPECT_EQ(bound(4.0), 10.0) << "it can be called again";
  EXPECT_EQ(round_trip(brood::bind(joined, "a", "b", 3s))(), "ab3000");
}

TEST(Bind, ValuesConvertToTheParameters) {
  const auto bound = brood::bind(joined, "a", "b");
  static_assert(
      std::is_same_v<decltype(bound), const Bound<decltype(&joined), std::string, std::string>>);
  EXPECT_EQ(round_trip(bound)(7ms), "ab7");
}

TEST(Bind, LambdasGetWhatTheyWouldCapture) {
  const Model model{{1, 2, 3}};
  const auto bound =
      round_trip(brood::bind([](const Model& m, std::size_t i) { return m.weights.at(i); }, model));
  EXPECT_EQ(bound(2), 3.0);
  const auto generic =
      round_trip(brood::bind([](const auto& a, auto b) { return a.size() + b; }, model.weights));
  EXPECT_EQ(generic(1U), 4U);
}

TEST(Bind, MembersTakeTheirObjectFirst) {
  const auto object = round_trip(brood::bind(&Model::at, Model{{1, 2, 3}}));
  EXPECT_EQ(object(1, 10.0), 20.0);
  const auto both = round_trip(brood::bind(&Model::at, Model{{1, 2, 3}}, 2));
  EXPECT_EQ(both(10.0), 30.0);
}

TEST(Bind, TheOtherParametersStayKnown) {
  using OfScaled = decltype(brood::bind(scaled, 1));
  static_assert(std::is_same_v<stored_arguments_t<OfScaled, int>, std::tuple<double>>);
  static_assert(CallableWith<OfScaled, int> && !CallableWith<OfScaled> &&
                !CallableWith<OfScaled, std::string>);
  using OfModel = decltype(brood::bind(&Model::at, Model{}));
  static_assert(
      std::is_same_v<stored_arguments_t<OfModel, int, float>, std::tuple<std::size_t, double>>);
  EXPECT_EQ(brood::bind(scaled, 1)(2), 2.0);
}

TEST(Bind, BoundOnesNest) {
  const auto bound = round_trip(brood::bind(brood::bind(joined, "x"), "y"));
  EXPECT_EQ(bound(5ms), "xy5");
  EXPECT_EQ(round_trip(std::map<int, std::remove_const_t<decltype(bound)>>{{1, bound}}).at(1)(6ms),
            "xy6");
}

TEST(Bind, NothingNeedBeBound) { EXPECT_EQ(round_trip(brood::bind(scaled))(2, 3), 6.0); }

}  // namespace
}  // namespace brood::detail::bind_test
