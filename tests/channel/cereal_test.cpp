// Classes with functions for cereal cross as they are, also with what cereal itself cannot write.
// Not for ThreadSanitizer: one thread.
#include <brood/channel/codec.hpp>

#include <gtest/gtest.h>

#include <cereal/types/base_class.hpp>
#include <cereal/types/polymorphic.hpp>
#include <cereal/types/valarray.hpp>
#include <cereal/types/vector.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <valarray>
#include <vector>

#include <brood/errors.hpp>

#include "round_trip.hpp"

namespace with_cereal {

struct Point {  // an aggregate, which cereal does not know
  int x, y;
};

class MemberFunction {
 public:
  MemberFunction() = default;
  explicit MemberFunction(std::string name) : name_(std::move(name)), points_{{1, 2}, {3, 4}} {}
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::vector<Point>& points() const { return points_; }

  template <class Archive>
  void serialize(Archive& archive) {
    archive(CEREAL_NVP(name_), cereal::make_nvp("points", points_));
  }

 private:
  std::string name_;
  std::vector<Point> points_;
};

class Private {  // nothing of it is public, not even its constructor
 public:
  static Private make(int value) {
    Private made;
    made.value_ = value;
    return made;
  }
  [[nodiscard]] int value() const { return value_; }

 private:
  friend class cereal::access;
  Private() = default;
  template <class Archive>
  void save(Archive& archive) const {
    archive << value_;
  }
  template <class Archive>
  void load(Archive& archive) {
    archive >> value_;
  }
  int value_ = 0;
};

struct NonMember {
  NonMember(int a_, double b_) : a(a_), b(b_) {}
  NonMember() : NonMember(0, 0) {}
  int a;
  double b;
};
template <class Archive>
void serialize(Archive& archive, NonMember& value) {
  archive& value.a& value.b;
}

struct Minimal {
  Minimal() = default;
  explicit Minimal(int v) : value(v) {}
  int value = 0;
};
template <class Archive>
std::string save_minimal(const Archive&, const Minimal& minimal) {
  return std::to_string(minimal.value);
}
template <class Archive>
void load_minimal(const Archive&, Minimal& minimal, const std::string& text) {
  minimal.value = std::stoi(text);
}

struct Versioned {
  Versioned() = default;
  explicit Versioned(int v) : value(v) {}
  int value = 0;
  std::uint32_t seen = 0;
  template <class Archive>
  void serialize(Archive& archive, std::uint32_t version) {
    seen = version;
    archive(value);
  }
};

struct Base {
  Base() = default;
  explicit Base(int b) : base(b) {}
  virtual ~Base() = default;
  [[nodiscard]] virtual int sum() const { return base; }
  int base = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(base);
  }
};
struct Derived : Base {
  Derived() = default;
  Derived(int b, int d) : Base(b), derived(d) {}
  [[nodiscard]] int sum() const override { return base + derived; }
  int derived = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(cereal::base_class<Base>(this), derived);
  }
};

struct Custom {  // what it counts need not be there
  Custom() = default;
  std::vector<double> values;
  template <class Archive>
  void save(Archive& archive) const {
    archive(cereal::make_size_tag(static_cast<cereal::size_type>(values.size())));
    archive(cereal::binary_data(values.data(), values.size() * sizeof(double)));
  }
  template <class Archive>
  void load(Archive& archive) {
    cereal::size_type size = 0;
    archive(cereal::make_size_tag(size));
    values.resize(size);
    archive(cereal::binary_data(values.data(), values.size() * sizeof(double)));
  }
};

struct Everything {  // an aggregate of them
  MemberFunction member;
  std::vector<NonMember> others;
  std::unique_ptr<Base> polymorphic;
};

}  // namespace with_cereal

CEREAL_CLASS_VERSION(with_cereal::Versioned, 3)
CEREAL_REGISTER_TYPE(with_cereal::Derived)
CEREAL_REGISTER_POLYMORPHIC_RELATION(with_cereal::Base, with_cereal::Derived)

namespace brood::detail::cereal_test {
namespace {

using namespace with_cereal;

TEST(Cereal, SerializeIsUsed) {
  const MemberFunction copy = round_trip(MemberFunction("wren"));
  EXPECT_EQ(copy.name(), "wren");
  ASSERT_EQ(copy.points().size(), 2U);
  EXPECT_EQ(copy.points()[1].y, 4);
}

TEST(Cereal, PrivateFunctionsAndConstructorsAreReached) {
  EXPECT_EQ(round_trip(Private::make(6)).value(), 6);
  EXPECT_EQ(round_trip(std::vector<Private>(3, Private::make(7))).at(2).value(), 7);
}

TEST(Cereal, FunctionsWhichAreNotMembersAreUsed) {
  EXPECT_EQ(round_trip(NonMember(1, 2.5)).b, 2.5);
  EXPECT_EQ(round_trip(std::vector<NonMember>(300, NonMember(1, 2.5))).at(299).a, 1);
}

TEST(Cereal, MinimalFunctionsAreUsed) { EXPECT_EQ(round_trip(Minimal(-12)).value, -12); }

TEST(Cereal, VersionsArriveAndAreWrittenOnce) {
  const std::vector<Versioned> copy = round_trip(std::vector<Versioned>(2, Versioned(9)));
  EXPECT_EQ(copy.at(1).value, 9);
  EXPECT_EQ(copy.at(1).seen, 3U);
  EXPECT_EQ(encoded(std::vector<Versioned>(2)).size() - encoded(std::vector<Versioned>(1)).size(),
            1 + sizeof(int));
}

TEST(Cereal, BaseClassesCross) { EXPECT_EQ(round_trip(Derived(3, 4)).sum(), 7); }

TEST(Cereal, RegisteredPolymorphicPointersKeepTheirClass) {
  const std::unique_ptr<Base> unique = std::make_unique<Derived>(1, 2);
  EXPECT_EQ(round_trip(unique)->sum(), 3);
  const std::shared_ptr<Base> shared = std::make_shared<Derived>(3, 4);
  const auto copy = round_trip(std::vector<std::shared_ptr<Base>>{shared, shared, nullptr});
  EXPECT_EQ(copy.at(0)->sum(), 7);
  EXPECT_EQ(copy.at(0), copy.at(1));
  EXPECT_EQ(copy.at(2), nullptr);
}

TEST(Cereal, AggregatesMayHoldThemAndTheyMayHoldAggregates) {
  Everything everything{MemberFunction("m"), {NonMember(1, 2)}, std::make_unique<Derived>(1, 1)};
  const Everything copy = round_trip(everything);
  EXPECT_EQ(copy.member.points().at(0).x, 1);
  EXPECT_EQ(copy.others.at(0).b, 2);
  EXPECT_EQ(copy.polymorphic->sum(), 2);
}

TEST(Cereal, ItsOwnFunctionsForOtherTypesAreUsed) {
  const std::valarray<double> copy = round_trip(std::valarray<double>{1, 2, 3});
  ASSERT_EQ(copy.size(), 3U);
  EXPECT_EQ(copy[2], 3);
}

TEST(Cereal, SizesThatAreReadAreBounded) {
  Custom custom;
  custom.values = {1, 2, 3};
  EXPECT_EQ(round_trip(custom).values, custom.values);
  std::vector<std::byte> bytes = encoded(custom);
  bytes[0] = std::byte{200};  // more than there are bytes at all
  ByteSource source(bytes);
  EXPECT_THROW(decode<Custom>(source), DecodeError);
}

TEST(Cereal, ItsExceptionsBecomeDecodeErrors) {
  const std::unique_ptr<Base> unique = std::make_unique<Derived>(1, 2);
  std::vector<std::byte> bytes = encoded(unique);
  std::size_t changed = 0;
  for (std::byte& byte : bytes) {
    if (byte != std::byte{'D'}) continue;  // in the name "with_cereal::Derived"
    byte = std::byte{'X'};
    ++changed;
  }
  ASSERT_GT(changed, 0U) << "of " << bytes.size() << " bytes";
  ByteSource source(bytes);
  EXPECT_THROW(decode<std::unique_ptr<Base>>(source), DecodeError);
}

}  // namespace
}  // namespace brood::detail::cereal_test
