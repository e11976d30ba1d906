#include <brood/channel/callable.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/codec.hpp>
#include <brood/errors.hpp>

namespace brood::detail::callable_test {
namespace {

using namespace std::chrono_literals;

/// Sends the callable and its arguments through bytes and calls what arrives.
template <class F, class... Args>
auto call(F&& f, Args&&... args) {
  require_callable<F, Args...>();
  using Function = stored_callable_t<F>;
  using Arguments = stored_arguments_t<F, Args...>;
  VectorSink sink;
  encode_callable(sink, Function(std::forward<F>(f)));
  encode(sink, Arguments(std::forward<Args>(args)...));
  ByteSource source(sink.bytes());
  auto function = decode_callable<Function>(source);
  auto arguments = decode<Arguments>(source);
  EXPECT_EQ(source.remaining(), 0U);
  return invoke_stored(function, std::move(arguments));
}

template <class F>
std::size_t bytes_of(const F& f) {
  VectorSink sink;
  encode_callable(sink, f);
  return sink.written();
}

bool is_prime(std::uint64_t n) { return n == 10'000'019; }
std::string repeat(std::string text, std::chrono::milliseconds times) noexcept {
  std::string all;
  for (auto i = 0ms; i < times; ++i) all += text;
  return all;
}
std::size_t length(std::string_view text) { return text.size(); }
double total(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}
int take(std::unique_ptr<int> owned) { return *owned; }
int overloaded_twice(int n) { return 2 * n; }

class Shape {
 public:
  Shape() = default;
  explicit Shape(int size) : size_(size) {}
  virtual ~Shape() = default;
  [[nodiscard]] int size() const noexcept { return size_; }
  [[nodiscard]] virtual int area() const { return 0; }
  int grow(int by) & { return size_ += by; }
  int consume() && { return std::exchange(size_, 0); }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(size_);
  }

 private:
  int size_ = 0;
};
class Square : public Shape {
 public:
  using Shape::Shape;
  [[nodiscard]] int area() const override { return size() * size(); }
};
struct Point {
  double x, y;
  [[nodiscard]] double sum() const { return x + y; }
};

struct Scale {
  double by;
  double operator()(double x) const { return by * x; }
};
struct Counter {
  int calls = 0;
  int operator()() { return ++calls; }
};
struct Overloaded {
  int operator()(int n) const { return n + 1; }
  std::string operator()(const std::string& s) const { return s + "1"; }
};

TEST(Callable, FunctionsCrossAndArgumentsConvertToTheirParameters) {
  EXPECT_TRUE(call(is_prime, 10'000'019));
  EXPECT_TRUE(call(&is_prime, 10'000'019U));
  EXPECT_EQ(call(repeat, "ab", 3ms), "ababab");
  EXPECT_EQ(call(take, std::make_unique<int>(4)), 4);
  bool (*chosen_when_running)(std::uint64_t) = is_prime;
  EXPECT_FALSE(call(chosen_when_running, 4));
}

TEST(Callable, ViewsAreKeptAsWhatTheyLookAt) {
  EXPECT_EQ(call(length, "four"), 4U);
  EXPECT_EQ(call(length, std::string("five!")), 5U);
  EXPECT_EQ(call(total, std::vector<double>{1, 2, 3.5}), 6.5);
}

TEST(Callable, LambdasWithoutCapturesTakeNoBytes) {
  const auto square = [](int n) { return n * n; };
  EXPECT_EQ(bytes_of(square), 0U);
  EXPECT_EQ(call(square, 7L), 49);
  EXPECT_EQ(call([](const auto& a, auto b) { return a + b; }, std::string("x"), std::string("y")),
            "xy");
  EXPECT_EQ(call([] { return 3; }), 3);
  EXPECT_EQ(call([](std::string&& s) { return std::move(s); }, "moved"), "moved");
}

TEST(Callable, FunctionObjectsCross) {
  EXPECT_EQ(bytes_of(std::plus<>()), 0U);
  EXPECT_EQ(call(std::plus<>(), 1, 2), 3);
  EXPECT_EQ(bytes_of(Scale{2}), sizeof(double));
  EXPECT_EQ(call(Scale{2.5}, 2), 5.0);
  EXPECT_EQ(call(Counter{4}), 5);
  EXPECT_EQ(call(Overloaded{}, 1), 2);
  EXPECT_EQ(call(Overloaded{}, std::string("a")), "a1");
}

TEST(Callable, MembersTakeTheirObjectByValue) {
  EXPECT_EQ(call(&Shape::size, Shape(3)), 3);
  EXPECT_EQ(call(&Shape::grow, Shape(3), 4L), 7);
  EXPECT_EQ(call(&Shape::consume, Shape(3)), 3);
  EXPECT_EQ(call(&Point::sum, Point{1, 2}), 3.0);
  EXPECT_EQ(call(&Point::y, Point{1, 2}), 2.0);
}

TEST(Callable, VirtualMembersAreThoseOfTheObjectsClass) {
  EXPECT_EQ(call(&Shape::area, Square(3)), 9);
  EXPECT_EQ(call(&Shape::area, Shape(3)), 0);
}

TEST(Callable, ArgumentTypesAreThoseOfTheParametersWhereTheyAreKnown) {
  static_assert(
      std::is_same_v<stored_arguments_t<decltype(repeat), const char(&)[2], std::chrono::seconds>,
                     std::tuple<std::string, std::chrono::milliseconds>>);
  static_assert(std::is_same_v<stored_arguments_t<Scale, int>, std::tuple<double>>);
  static_assert(
      std::is_same_v<stored_arguments_t<std::plus<>, int&, const long&>, std::tuple<int, long>>);
  static_assert(std::is_same_v<stored_arguments_t<decltype(&Shape::grow), Square&, short>,
                               std::tuple<Square, int>>);
  static_assert(std::is_same_v<result_t<decltype(is_prime), int>, bool>);
  static_assert(std::is_same_v<result_t<decltype(&Point::y), Point>, double>);
  static_assert(std::is_void_v<result_t<void (*)(int), int>>);
}

TEST(Callable, WhatCannotBeCalledThereIsRefused) {
  int captured = 1;
  const auto capturing = [captured](int n) { return n + captured; };
  const auto generic = [](auto) {};
  static_assert(CallableWith<decltype(is_prime), int>);
  static_assert(!CallableWith<decltype(is_prime)> && !CallableWith<decltype(is_prime), int, int>);
  static_assert(!CallableWith<decltype(is_prime), std::string>);
  static_assert(!CallableWith<decltype(capturing), int>);
  static_assert(CallableWith<decltype(generic), int> &&
                !CallableWith<decltype(generic), const char*>);
  static_assert(!CallableWith<std::function<void()>> && !CallableWith<int>);
  static_assert(!CallableWith<void (*)(int&), int> && CallableWith<void (*)(const int&), int>);
  static_assert(!CallableWith<int& (*)()> && !CallableWith<const char* (*)()>);
  static_assert(!CallableWith<std::string_view (*)()> && CallableWith<std::string (*)()>);
  static_assert(!CallableWith<void (*)(int*), int*> && !CallableWith<decltype(&Shape::size), int>);
  EXPECT_EQ(capturing(1), 2);
  generic(0);
}

TEST(Callable, FunctionsMadeAtRunTimeAreRefusedWhereTheyAreSent) {
  alignas(16) static const unsigned char no_code[16] = {};
  using Function = void (*)();
  const auto nowhere = reinterpret_cast<Function>(reinterpret_cast<std::uintptr_t>(&no_code));
  VectorSink sink;
  EXPECT_THROW(encode_callable(sink, nowhere), Error);
  EXPECT_EQ(call([](Function f) { return f == nullptr; }, Function{nullptr}), true);
}

TEST(Callable, FunctionsOfAnotherTypeAreNotTakenForThisOne) {
  VectorSink sink;
  encode_callable(sink, &overloaded_twice);
  ByteSource source(sink.bytes());
  EXPECT_THROW(decode_callable<bool (*)(std::uint64_t)>(source), DecodeError);
}

}  // namespace
}  // namespace brood::detail::callable_test
