// What is signed for one use is nothing to another.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include <brood/cluster/envelope.hpp>
#include <brood/cluster/stored_value.hpp>
#include <brood/errors.hpp>

namespace brood::testing::envelope_test {
namespace {

using detail::Envelope;

TEST(ClusterEnvelope, OpensWhatItSealedAndNothingElse) {
  const Envelope envelope("key", "use");
  const std::vector<std::byte> bytes(100, std::byte{7});
  const std::vector<std::byte> sealed = envelope.seal(bytes, "about");
  EXPECT_EQ(sealed.size(), bytes.size() + Envelope::kBytes);
  const auto opened = envelope.open(sealed, "about");
  EXPECT_EQ(std::vector<std::byte>(opened.begin(), opened.end()), bytes);
  EXPECT_THROW(static_cast<void>(envelope.open(sealed, "other")), AuthenticationError);
  EXPECT_THROW(static_cast<void>(envelope.open(sealed)), AuthenticationError);
  EXPECT_THROW(static_cast<void>(Envelope("key", "other").open(sealed, "about")),
               AuthenticationError);
  EXPECT_THROW(static_cast<void>(Envelope("other", "use").open(sealed, "about")),
               AuthenticationError);
  for (std::size_t i = 0; i != sealed.size(); ++i) {
    std::vector<std::byte> damaged = sealed;
    damaged[i] ^= std::byte{1};
    EXPECT_THROW(static_cast<void>(envelope.open(damaged, "about")), AuthenticationError) << i;
  }
  EXPECT_THROW(static_cast<void>(envelope.open({sealed.data(), 31})), DecodeError);
  EXPECT_EQ(envelope.open(envelope.seal(std::span<const std::byte>())).size(), 0U);
}

struct Job {
  int number;
  std::string text;
};
struct Tree {
  std::vector<Tree> children;
};
namespace elsewhere {
struct Job {
  int number;
  std::string text;
};
}  // namespace elsewhere

TEST(ClusterStoredType, IsAnotherForAnotherType) {
  std::vector<std::uint64_t> prints{
      detail::stored_type<int>().print,
      detail::stored_type<long>().print,
      detail::stored_type<std::string>().print,
      detail::stored_type<std::vector<int>>().print,
      detail::stored_type<std::array<int, 2>>().print,
      detail::stored_type<std::array<int, 3>>().print,
      detail::stored_type<Job>().print,
      detail::stored_type<elsewhere::Job>().print,
      detail::stored_type<Tree>().print,
      detail::stored_type<int, std::string>().print,
      detail::stored_type<std::string, int>().print,
  };
  for (std::size_t i = 0; i != prints.size(); ++i) {
    for (std::size_t j = 0; j != i; ++j) EXPECT_NE(prints[i], prints[j]) << i << ' ' << j;
  }
  EXPECT_EQ(detail::stored_type<const int>().print, detail::stored_type<int>().print);
  EXPECT_EQ(detail::stored_type<int>().name, "int");
  EXPECT_NE(detail::stored_type<Job>().name.find("Job"), std::string::npos);
  EXPECT_EQ((detail::stored_type<int, double>().name), "int, double");
}

}  // namespace
}  // namespace brood::testing::envelope_test
