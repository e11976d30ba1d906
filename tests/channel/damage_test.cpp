// Bytes from another process are not trusted: whatever they are, a value or a DecodeError comes
// out, and no more memory is taken than the bytes could be worth.
// Not for ThreadSanitizer: one thread.
#include <brood/channel/codec.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <forward_list>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

#include <brood/bind.hpp>
#include <brood/errors.hpp>

#include "round_trip.hpp"

namespace brood::detail::damage_test {
namespace {

enum class Mode : bool { off, on };

struct Flags {
  bool a;
  char padding_is_not_looked_at;
  bool b[2];
  Mode mode;
  std::array<bool, 2> c;
};

struct Leaf {
  std::string name;
  std::variant<int, std::string, bool> value;
  bool known;
};

struct Tree {
  std::vector<Leaf> leaves;
  std::vector<Tree> children;
  std::unique_ptr<Tree> next;
};

struct Nothing {};

class Cereal {
 public:
  template <class Archive>
  void serialize(Archive& archive) {
    archive(numbers_, text_, flag_);
  }
  Cereal() = default;
  explicit Cereal(std::string text) : numbers_{1, 2, 3}, text_(std::move(text)) {}

 private:
  std::vector<int> numbers_;
  std::string text_;
  bool flag_ = true;
};

/// Decodes, and uses what comes out; says whether a value did.
template <class T>
bool decodes(std::span<const std::byte> bytes) {
  ByteSource source(bytes);
  std::optional<T> value;
  try {
    value.emplace(decode<T>(source));
  } catch (const DecodeError&) {
    return false;
  } catch (const UnknownFunction&) {
    return false;
  }
  encoded(*value);  // reads all of it: a bool that is neither true nor false would be noticed
  return true;
}

template <class T>
void expect_harmless(const T& sample) {
  const std::vector<std::byte> bytes = encoded(sample);
  ASSERT_TRUE(decodes<T>(bytes));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    // In memory of its own, so that AddressSanitizer sees a read beyond the end.
    const std::vector<std::byte> truncated(bytes.begin(),
                                           bytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(decodes<T>(truncated)) << size << " of " << bytes.size() << " bytes";
  }
  std::vector<std::byte> damaged = bytes;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int change = 1; change < 256; ++change) {
      damaged[at] = bytes[at] ^ static_cast<std::byte>(change);
      decodes<T>(damaged);  // into whatever; what throws anything else fails the test
    }
    damaged[at] = bytes[at];
  }
  EXPECT_TRUE(decodes<T>(damaged));
}

TEST(Damage, NumbersAndFlags) {
  expect_harmless(std::tuple(true, 7, Mode::on, std::optional<double>(1.5)));
  expect_harmless(Flags{true, 'x', {false, true}, Mode::on, {true, false}});
  expect_harmless(std::vector<Flags>(3, Flags{true, 'x', {false, true}, Mode::on, {true, false}}));
  expect_harmless(std::bitset<13>("1010101010101"));
  expect_harmless(std::vector<bool>(21, true));
}

TEST(Damage, BoolsMustBeZeroOrOne) {
  const std::array<std::byte, 1> two{std::byte{2}};
  EXPECT_FALSE(decodes<bool>(two));
  EXPECT_FALSE(decodes<Mode>(two));
  std::vector<std::byte> flags = encoded(Flags{});
  for (const std::size_t at : {0U, 2U, 3U, 4U, 5U, 6U}) {
    flags[at] = std::byte{2};
    EXPECT_FALSE(decodes<Flags>(flags)) << "byte " << at;
    flags[at] = std::byte{1};
  }
  EXPECT_TRUE(decodes<Flags>(flags));
}

TEST(Damage, TextAndContainers) {
  expect_harmless(std::string("some text"));
  expect_harmless(std::u16string(u"some text"));
  expect_harmless(std::vector<std::string>{"a", "bc", ""});
  expect_harmless(std::vector<std::uint64_t>{1, 2, 3});
  expect_harmless(std::deque<std::list<short>>{{1}, {2, 3}});
  expect_harmless(std::forward_list<std::string>{"a", "b"});
  expect_harmless(std::map<std::string, std::vector<int>>{{"a", {1}}, {"b", {}}});
  expect_harmless(std::unordered_map<int, std::set<int>>{{1, {2, 3}}});
  expect_harmless(std::vector<Nothing>(5));
  expect_harmless(std::tuple<std::string, std::array<std::string, 2>>{"a", {"b", "c"}});
}

TEST(Damage, LongSizes) {
  const std::vector<std::byte> bytes = encoded(std::string(300, 'x'));
  for (std::size_t at = 0; at < 9; ++at) {
    std::vector<std::byte> damaged = bytes;
    for (int change = 1; change < 256; ++change) {
      damaged[at] = bytes[at] ^ static_cast<std::byte>(change);
      decodes<std::string>(damaged);
      decodes<std::vector<std::string>>(damaged);
      decodes<std::vector<Flags>>(damaged);
    }
  }
}

TEST(Damage, Aggregates) {
  Tree tree{{Leaf{"leaf", "text", true}}, {}, nullptr};
  tree.children.push_back(
      Tree{{}, {}, std::make_unique<Tree>(Tree{{Leaf{"x", 1, false}}, {}, {}})});
  expect_harmless(tree);
}

TEST(Damage, PointersThatShare) {
  const auto one = std::make_shared<std::string>("one");
  expect_harmless(std::vector<std::shared_ptr<std::string>>{one, one, nullptr});
  expect_harmless(std::tuple(one, std::make_shared<int>(5), one));
}

TEST(Damage, ClassesWithCerealFunctions) {
  expect_harmless(Cereal("text"));
  expect_harmless(std::vector<Cereal>{Cereal("a"), Cereal()});
}

TEST(Damage, FunctionPointersAreNeverChangedIntoOthers) {
  using Function = int (*)(int);
  const Function function = [](int n) { return n + 1; };
  const std::vector<std::byte> bytes = encoded(function);
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (int change = 1; change < 256; ++change) {
      std::vector<std::byte> damaged = bytes;
      damaged[at] ^= static_cast<std::byte>(change);
      EXPECT_FALSE(decodes<Function>(damaged)) << "byte " << at << " xor " << change;
    }
  }
  expect_harmless(std::tuple(function, &Leaf::known));
}

/// Notes the largest piece of memory that was asked for.
template <class T>
struct NotingAllocator {
  using value_type = T;
  NotingAllocator() = default;
  template <class U>
  NotingAllocator(const NotingAllocator<U>&) {}  // NOLINT(google-explicit-constructor)
  T* allocate(std::size_t count) {
    largest = std::max(largest, count * sizeof(T));
    return std::allocator<T>().allocate(count);
  }
  void deallocate(T* memory, std::size_t count) { std::allocator<T>().deallocate(memory, count); }
  friend bool operator==(const NotingAllocator&, const NotingAllocator&) { return true; }
  static inline std::size_t largest = 0;
};

struct Large {
  std::optional<std::array<double, 1000>> numbers;
  std::string name;
};

template <class T>
void expect_modest(std::span<const std::byte> bytes) {
  using Elements = std::vector<T, NotingAllocator<T>>;
  NotingAllocator<T>::largest = 0;
  EXPECT_FALSE(decodes<Elements>(bytes));
  EXPECT_LE(NotingAllocator<T>::largest, 2 * (sizeof(T) + 4096 + 8 * bytes.size()));
}

TEST(Damage, HugeSizesTakeNoMemory) {
  for (const std::uint64_t size :
       {std::uint64_t{1} << 60U, ~std::uint64_t{0}, std::uint64_t{1000}}) {
    std::vector<std::byte> bytes(9);
    bytes[0] = std::byte{255};
    std::memcpy(&bytes[1], &size, sizeof(size));
    expect_modest<int>(bytes);
    expect_modest<std::string>(bytes);
    expect_modest<Nothing>(bytes);
    expect_modest<Large>(bytes);
    EXPECT_FALSE(decodes<std::string>(bytes));
    EXPECT_FALSE(decodes<std::list<Nothing>>(bytes));
    EXPECT_FALSE((decodes<std::unordered_map<int, int>>(bytes)));
    EXPECT_FALSE(decodes<std::vector<bool>>(bytes));
  }
  // The size is possible, the elements are not: no room for all of them is made in advance.
  std::vector<std::byte> bytes(2000, std::byte{3});
  bytes[0] = std::byte{254};
  expect_modest<Large>(bytes);
}

struct List {
  std::unique_ptr<List> next;
};

TEST(Damage, DepthIsLimited) {
  const std::vector<std::byte> endless(100000, std::byte{1});
  EXPECT_FALSE(decodes<List>(endless));
  List list;
  for (int i = 0; i < Nesting::kMost - 1; ++i) {
    list = List{std::make_unique<List>(std::move(list))};
  }
  EXPECT_TRUE(decodes<List>(encoded(list))) << "as deep as may be";
  list = List{std::make_unique<List>(std::move(list))};
  EXPECT_THROW(encoded(list), Error) << "one deeper is refused where it is sent";
}

TEST(Damage, ErrorsSayWhere) {
  const std::vector<std::byte> bytes(3);
  ByteSource source(bytes);
  try {
    decode<int>(source);
    FAIL() << "it decoded";
  } catch (const DecodeError& error) {
    EXPECT_NE(std::string(error.what()).find("4 bytes are wanted at byte 0"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace brood::detail::damage_test
