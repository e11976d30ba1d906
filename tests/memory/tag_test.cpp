#include <gtest/gtest.h>

#include <cstdint>

#include <brood/memory/tag.hpp>

namespace brood::detail::tag_test {
namespace {

TEST(Tag, NobodyHasTheEmptyOne) {
  EXPECT_TRUE(Tag().none());
  EXPECT_EQ(Tag().bits(), 0U);
  EXPECT_FALSE(Tag(0, 1).none());
  EXPECT_FALSE(Tag(1023, 0).none());
}

TEST(Tag, KeepsSlotAndGenerationApart) {
  for (const std::uint32_t slot : {0U, 1U, 1023U, 1024U, 4095U}) {
    for (const std::uint32_t generation : {1U, 2U, 0x2aaaU, Tag::kMaxGeneration}) {
      const Tag tag(slot, generation);
      EXPECT_EQ(tag.slot(), slot);
      EXPECT_EQ(tag.generation(), generation);
      EXPECT_LT(tag.bits(), 1U << Tag::kBits);
      EXPECT_EQ(Tag::from_bits(tag.bits()), tag);
    }
  }
}

TEST(Tag, IsReadFromWordsThatSayMore) {
  const Tag tag(77, 12345);
  EXPECT_EQ(Tag::from_bits(0xfedc'ba98'7000'0000U | tag.bits()), tag);
  // Whatever the bits are, the slot is one of the table.
  EXPECT_LT(Tag::from_bits(~std::uint64_t{0}).slot(), 1U << Tag::kSlotBits);
}

TEST(Tag, EqualsOnlyItself) {
  EXPECT_EQ(Tag(3, 4), Tag(3, 4));
  EXPECT_NE(Tag(3, 4), Tag(3, 5));
  EXPECT_NE(Tag(3, 4), Tag(4, 4));
  EXPECT_LT(Tag(1023, 4), Tag(0, 5)) << "later generations are greater";
}

}  // namespace
}  // namespace brood::detail::tag_test
