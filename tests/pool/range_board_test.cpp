// What RangeBoard and RangeOwner do, step by step, in one process.
#include <brood/pool/range_owner.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <new>
#include <vector>

namespace brood::detail {

// Looks inside, to do what only a crashing process would do.
struct RangeBoardPeek {
  static auto& own(const RangeBoard<>& board, std::uint32_t slot) { return board.slots_[slot].own; }
  // The worker of `slot` stands in a move of `part`, before taking it.
  static void begin_move(const RangeBoard<>& board, std::uint32_t slot, Range part) {
    board.slots_[slot].intent.store(RangeBoard<>::pack(part));
    board.slots_[slot].moves.fetch_add(1);
  }
  static void end_move(const RangeBoard<>& board, std::uint32_t slot) {
    board.slots_[slot].moves.fetch_add(1);
  }
};

namespace range_board_test {
namespace {

class Memory {
 public:
  explicit Memory(const RangeBoardShape& shape)
      : bytes_(RangeBoard<>::bytes_needed(shape.items, shape.slots)),
        memory_(::operator new(bytes_, std::align_val_t{128})),
        board(RangeBoard<>::format(memory_, bytes_, shape)),
        owner(board) {}
  ~Memory() { ::operator delete(memory_, std::align_val_t{128}); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() { return memory_; }
  std::size_t size() const { return bytes_; }

  // As far as the board can tell, somebody has run them.
  void run(Range items, ItemState state = ItemState::kValue) {
    board.marks(0).finish(items, state);
  }
  // Works until there is nothing to take, and returns the items in the order they came.
  std::vector<std::uint32_t> drain(std::uint32_t slot) {
    std::vector<std::uint32_t> order;
    for (Range chunk = board.take(slot); chunk; chunk = board.next(slot, chunk)) {
      for (std::uint32_t i = chunk.begin; i != chunk.end; ++i) order.push_back(i);
      run(chunk);
    }
    return order;
  }

 private:
  std::size_t bytes_;
  void* memory_;

 public:
  RangeBoard<> board;
  RangeOwner<> owner;
};

TEST(RangeBoard, OneWorkerDoesAllItemsOnce) {
  for (const std::uint32_t items : {0u, 1u, 7u, 63u, 64u, 65u, 5000u}) {
    Memory m({.items = items, .slots = 3, .chunk = 4});
    m.owner.hand_out();
    EXPECT_EQ(m.owner.finished(), items == 0);
    std::vector<std::uint32_t> done = m.drain(1);
    std::sort(done.begin(), done.end());
    ASSERT_EQ(done.size(), items);
    for (std::uint32_t i = 0; i != items; ++i) ASSERT_EQ(done[i], i);
    EXPECT_TRUE(m.board.leave(1));
    EXPECT_TRUE(m.owner.finished());
    EXPECT_TRUE(m.owner.all_values());
  }
}

TEST(RangeBoard, AnAttachedViewSeesTheSameBoard) {
  Memory m({.items = 10, .slots = 2, .chunk = 3});
  m.owner.hand_out();
  const auto other = RangeBoard<>::attach(m.data(), m.size());
  EXPECT_EQ(other.items(), 10u);
  EXPECT_EQ(other.slots(), 2u);
  EXPECT_EQ(other.take(0), (Range{0, 3}));
  EXPECT_EQ(m.board.take(0), (Range{0, 3}));
}

TEST(RangeBoard, RefusesShapesAndBytesThatMakeNoSense) {
  Memory m({.items = 10, .slots = 2});
  const auto format = [&](RangeBoardShape shape, std::size_t bytes) {
    RangeBoard<>::format(m.data(), bytes, shape);
  };
  EXPECT_THROW(format({.items = 1, .slots = 0}, m.size()), RangeBoardError);
  EXPECT_THROW(format({.items = 1, .slots = 257}, 1 << 20), RangeBoardError);
  EXPECT_THROW(format({.items = 1, .slots = 1, .chunk = 0}, m.size()), RangeBoardError);
  EXPECT_THROW(format({.items = 10'000, .slots = 2}, m.size()), RangeBoardError);
  EXPECT_THROW(RangeBoard<>::attach(m.data(), 16), RangeBoardError);
  EXPECT_THROW(RangeBoard<>::attach(m.data(), m.size() - 64), RangeBoardError);
  std::memset(m.data(), 7, 128);
  EXPECT_THROW(RangeBoard<>::attach(m.data(), m.size()), RangeBoardError);
}

TEST(RangeBoard, AThiefTakesTheFarHalfAndNeverTheFirstChunk) {
  Memory m({.items = 20, .slots = 2, .chunk = 2});
  m.owner.hand_out();
  EXPECT_EQ(m.board.take(0), (Range{0, 2}));
  m.run({10, 20});
  for (Range c = m.board.take(1); c.begin >= 10 && c; c = m.board.next(1, c)) {
  }
  // Slot 1 has worked off its own share and holds the far half of 2..10.
  EXPECT_EQ(m.board.take(1), (Range{6, 8}));
  m.run({6, 10});
  EXPECT_EQ(m.board.next(1, {6, 8}), (Range{8, 10}));
  EXPECT_EQ(m.board.next(1, {8, 10}), (Range{4, 6}));
  m.run({4, 6});
  EXPECT_EQ(m.board.next(1, {4, 6}), (Range{2, 4}));
  m.run({2, 4});
  EXPECT_FALSE(m.board.next(1, {2, 4})) << "items 0 and 1 are being run by slot 0";
  EXPECT_FALSE(m.board.leave(1)) << "slot 0 is still at work and will say when it is done";
  m.run({0, 2});
  EXPECT_FALSE(m.board.next(0, {0, 2}));
  EXPECT_TRUE(m.board.leave(0));
  EXPECT_TRUE(m.owner.finished());
}

TEST(RangeBoard, AStreamIsWorkedOffInOrder) {
  Memory m({.items = 100, .slots = 2, .order = TakeOrder::kFifo});
  EXPECT_TRUE(m.owner.finished());
  EXPECT_FALSE(m.board.take(0));
  EXPECT_EQ(m.owner.append(60), 60u);
  EXPECT_FALSE(m.owner.finished());
  const auto first = m.drain(0);
  ASSERT_EQ(first.size(), 60u);
  EXPECT_TRUE(std::is_sorted(first.begin(), first.end()));
  EXPECT_TRUE(m.owner.finished());
  EXPECT_EQ(m.owner.append(60), 40u) << "there is room for no more";
  EXPECT_EQ(m.owner.append(1), 0u);
  EXPECT_EQ(m.drain(1).size(), 40u);
  EXPECT_TRUE(m.owner.finished());
}

TEST(RangeBoard, ChunksGrowWithTheNextCommit) {
  Memory m({.items = 100, .slots = 1});
  m.owner.hand_out();
  Range chunk = m.board.take(0);
  EXPECT_EQ(chunk.size(), 1u);
  m.run(chunk);
  m.board.grow_chunk(0, 10);
  chunk = m.board.next(0, chunk);
  EXPECT_EQ(chunk, (Range{1, 11}));
  m.board.grow_chunk(0, 2);  // too late: they only grow
  m.run({1, 4});
  EXPECT_EQ(m.board.next(0, {1, 4}), (Range{4, 14})) << "a part of a chunk may be committed";
}

TEST(RangeOwner, TheItemAWorkerDiedInIsTheCulpritAndTheRestIsHandedOn) {
  Memory m({.items = 12, .slots = 2, .chunk = 4});
  m.owner.hand_out();
  ASSERT_EQ(m.board.take(0), (Range{0, 4}));
  m.run({0, 2});
  m.board.marks(0).begin(2);
  const RangeRecovery found = m.owner.recover(0);
  EXPECT_EQ(found.culprits, std::vector<std::uint32_t>{2});
  EXPECT_TRUE(found.work);
  m.owner.fail(2);
  EXPECT_EQ(m.drain(1).size(), 9u);
  EXPECT_TRUE(m.owner.finished());
  EXPECT_FALSE(m.owner.all_values());
  EXPECT_EQ(m.board.state(2), ItemState::kCrashed);
  EXPECT_EQ(m.owner.first_other_than(ItemState::kValue, 0), 2u);
  EXPECT_EQ(m.owner.first_other_than(ItemState::kValue, 3), 12u);
  EXPECT_EQ(m.owner.first_unfinished(0), 12u);
}

TEST(RangeOwner, ADeathBetweenItemsBlamesNone) {
  Memory m({.items = 12, .slots = 2, .chunk = 4});
  m.owner.hand_out();
  m.board.take(0);
  const auto marks = m.board.marks(0);
  for (const std::uint32_t item : {0u, 1u}) {
    marks.begin(item);
    marks.finish(item, ItemState::kValue);
  }
  EXPECT_TRUE(m.owner.recover(0).culprits.empty());
  EXPECT_TRUE(m.owner.recover(0).culprits.empty()) << "recovery may be repeated";
  EXPECT_EQ(m.drain(1).size(), 10u);
  EXPECT_TRUE(m.owner.finished());
}

TEST(RangeOwner, ARetriedCulpritIsRunAgain) {
  Memory m({.items = 3, .slots = 1, .chunk = 3});
  m.owner.hand_out();
  m.board.take(0);
  m.board.marks(0).begin(0);
  ASSERT_EQ(m.owner.recover(0).culprits, std::vector<std::uint32_t>{0});
  EXPECT_FALSE(m.owner.finished());
  EXPECT_TRUE(m.owner.retry(0));
  EXPECT_EQ(m.drain(0).size(), 3u);
  EXPECT_TRUE(m.owner.finished());
  EXPECT_TRUE(m.owner.all_values());
}

TEST(RangeOwner, ToBeginAnItemSaysThatThoseBeforeItHaveEnded) {
  Memory m({.items = 12, .slots = 2, .chunk = 6});
  m.owner.hand_out();
  const auto marks = m.board.marks(0);
  ASSERT_EQ(m.board.take(0), (Range{0, 6}));
  marks.begin(0);
  marks.begin(1);
  marks.finish(1, ItemState::kException);
  marks.begin(2);
  marks.begin(3);
  EXPECT_EQ(m.board.state(0), ItemState::kPending) << "as long as its worker lives";
  EXPECT_EQ(m.owner.recover(0).culprits, std::vector<std::uint32_t>{3});
  EXPECT_EQ(m.board.state(0), ItemState::kValue);
  EXPECT_EQ(m.board.state(1), ItemState::kException);
  EXPECT_EQ(m.board.state(2), ItemState::kValue);
  m.owner.fail(3);
  std::vector<std::uint32_t> done = m.drain(1);
  std::sort(done.begin(), done.end());
  EXPECT_EQ(done, (std::vector<std::uint32_t>{4, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_TRUE(m.owner.finished());
}

TEST(RangeOwner, TheItemOfADeadWorkerIsNotBlamedOnTheNextInItsSlot) {
  Memory m({.items = 1, .slots = 1, .chunk = 1});
  m.owner.hand_out();
  ASSERT_EQ(m.board.take(0), (Range{0, 1}));
  m.board.marks(0).begin(0);
  ASSERT_EQ(m.owner.recover(0).culprits, std::vector<std::uint32_t>{0});
  m.owner.retry(0);
  ASSERT_EQ(m.board.take(0), (Range{0, 1}));
  EXPECT_TRUE(m.owner.recover(0).culprits.empty()) << "it had not begun it";
  EXPECT_EQ(m.drain(0).size(), 1u);
  EXPECT_TRUE(m.owner.finished());
}

TEST(RangeOwner, CountsWhatHasEnded) {
  Memory m({.items = 40, .slots = 2, .chunk = 8});
  m.owner.hand_out();
  EXPECT_EQ(m.owner.count_ended(), 0u);
  ASSERT_EQ(m.board.take(1), (Range{20, 28}));
  ASSERT_EQ(m.board.take(0), (Range{0, 8}));
  m.board.marks(1).begin(20);
  EXPECT_EQ(m.owner.count_ended(), 0u) << "it is running";
  m.board.marks(1).begin(25);
  EXPECT_EQ(m.owner.count_ended(), 5u) << "their states are not written yet";
  m.run({0, 8});
  m.run({20, 28});
  EXPECT_EQ(m.owner.count_ended(), 16u);
  m.board.next(0, {0, 8});
  m.board.next(1, {20, 28});
  EXPECT_EQ(m.owner.count_ended(), 16u);
  m.drain(0);
  m.run({28, 36});
  m.board.next(1, {28, 36});
  EXPECT_EQ(m.owner.count_ended(), 40u);
}

TEST(RangeOwner, WhoeverLeavesTellsTheOwnerThatSomethingWaitsForRoom) {
  Memory m({.items = 12, .slots = 3, .chunk = 2});
  m.owner.hand_out();
  for (const std::uint32_t slot : {0u, 1u, 2u}) {
    ASSERT_EQ(m.board.take(slot), (Range{4 * slot, 4 * slot + 2}));
  }
  for (const std::uint32_t slot : {0u, 1u}) {
    m.board.marks(slot).begin(4 * slot);
    ASSERT_EQ(m.owner.recover(slot).culprits, std::vector<std::uint32_t>{4 * slot});
    EXPECT_TRUE(m.owner.retry(4 * slot)) << "there is room in two shares for the rest and it";
  }
  EXPECT_FALSE(m.board.leave(0));
  EXPECT_FALSE(m.owner.recover(2).work) << "there is none for 8..12";
  ASSERT_EQ(m.board.take(0), (Range{1, 3}));
  EXPECT_TRUE(m.board.leave(1)) << "8..12 waits for room, though there is work for others";
  m.owner.suspect_all();  // what waits is in the owner's hands, so it is no orphan
  EXPECT_TRUE(m.owner.heal());
  EXPECT_FALSE(m.board.leave(1));
  std::vector<std::uint32_t> done = m.drain(0);
  EXPECT_FALSE(m.owner.heal());
  std::sort(done.begin(), done.end());
  EXPECT_EQ(done, (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
}

TEST(RangeOwner, ADoubtWaitsForMovesUnderWayAndSparesUnsettledCulprits) {
  Memory m({.items = 9, .slots = 3, .chunk = 1});
  m.owner.hand_out();
  ASSERT_EQ(m.board.take(0), (Range{0, 1}));
  // Workers 1 and 2 both go for 1..3; one stops there, the other dies there.
  RangeBoardPeek::begin_move(m.board, 1, {1, 3});
  RangeBoardPeek::begin_move(m.board, 2, {1, 3});
  m.run({0, 1});
  ASSERT_EQ(m.board.next(0, {0, 1}), (Range{1, 2}));
  m.board.marks(0).begin(1);
  RangeBoardPeek::own(m.board, 0).store(std::uint64_t{2} | std::uint64_t{2} << 32);
  // Worker 0's word is hidden for a moment, so that only the stopped one may hold 1..3.
  EXPECT_FALSE(m.owner.recover(2).work);
  EXPECT_TRUE(m.board.leave(2)) << "there is a doubt";
  RangeBoardPeek::own(m.board, 0).store(std::uint64_t{1} | std::uint64_t{3} << 32);
  RangeBoardPeek::end_move(m.board, 1);
  EXPECT_EQ(m.owner.recover(0).culprits, std::vector<std::uint32_t>{1}) << "reported once";
  m.owner.suspect_all();
  m.owner.heal();
  EXPECT_TRUE(m.owner.recover(0).culprits.empty()) << "it is known already";
  m.owner.fail(1);
  std::vector<std::uint32_t> done = m.drain(1);
  std::sort(done.begin(), done.end());
  EXPECT_EQ(done, (std::vector<std::uint32_t>{2, 3, 4, 5, 6, 7, 8}));
  EXPECT_TRUE(m.owner.finished());
}

TEST(RangeOwner, WhatIsKeptBackIsHandedOutInPieces) {
  Memory m({.items = 40, .slots = 2, .chunk = 2});
  m.owner.keep_back();
  ASSERT_EQ(m.owner.slices(), 2u);
  EXPECT_FALSE(m.board.take(0)) << "nothing has been handed out";
  EXPECT_FALSE(m.owner.finished()) << "though all words are empty";
  EXPECT_EQ(m.owner.kept_back(0, 4), (Range{0, 4}));
  m.owner.let_go(0, {0, 4});
  EXPECT_EQ(m.owner.kept_back(0, 4), (Range{4, 8}));
  m.owner.let_go(0, {4, 8});
  EXPECT_EQ(m.drain(0), (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_FALSE(m.owner.finished());

  // Somebody takes the far half of a share that is still growing.
  m.owner.let_go(1, m.owner.kept_back(1, 8));
  EXPECT_EQ(m.board.take(0), (Range{24, 26}));
  m.owner.let_go(1, m.owner.kept_back(1, 100));
  EXPECT_FALSE(m.owner.kept_back(1, 100));
  m.owner.let_go(0, m.owner.kept_back(0, 100));
  std::vector<std::uint32_t> done = m.drain(0);
  const std::vector<std::uint32_t> more = m.drain(1);
  done.insert(done.end(), more.begin(), more.end());
  std::sort(done.begin(), done.end());
  ASSERT_EQ(done.size(), 32u);
  for (std::uint32_t i = 0; i != 32; ++i) EXPECT_EQ(done[i], 8 + i);
  EXPECT_TRUE(m.owner.finished());
  EXPECT_TRUE(m.owner.all_values());
}

TEST(RangeOwner, WhatIsKeptBackAndFindsNoRoomIsCalledFor) {
  Memory m({.items = 12, .slots = 1, .chunk = 2});
  m.owner.keep_back();
  m.owner.let_go(0, {0, 4});
  EXPECT_EQ(m.board.take(0), (Range{0, 2}));
  // Of a worker that died: it fills the share, so what follows goes to the inbox, then nowhere.
  m.board.marks(0).begin(1);
  EXPECT_EQ(m.owner.recover(0).culprits, std::vector<std::uint32_t>{1});
  m.owner.fail(1);
  m.owner.let_go(0, {4, 6});
  EXPECT_EQ(m.board.take(0), (Range{2, 4})) << "and with it what was let go behind it";
  m.owner.retry(1);
  m.owner.let_go(0, {6, 8});
  m.owner.let_go(0, {8, 12});
  m.run({2, 12});
  EXPECT_TRUE(m.board.leave(0)) << "the owner is to place what found no room";
  EXPECT_TRUE(m.board.wants_owner());
  m.drain(0);
  while (m.owner.heal()) m.drain(0);
  EXPECT_TRUE(m.owner.finished());
}

TEST(RangeOwner, WhatIsKeptBackIsCancelledWithTheRest) {
  Memory m({.items = 20, .slots = 2, .chunk = 2});
  m.owner.keep_back();
  const Range part = m.owner.kept_back(1, 4);
  m.owner.cancel();
  EXPECT_FALSE(m.owner.kept_back(0, 4));
  m.owner.let_go(1, part);
  EXPECT_FALSE(m.board.take(1));
  EXPECT_EQ(m.board.state(0), ItemState::kCancelled);
  EXPECT_EQ(m.board.state(19), ItemState::kCancelled);
  EXPECT_TRUE(m.owner.finished());
}

TEST(RangeOwner, CancelLeavesOnlyFirstChunks) {
  Memory m({.items = 100, .slots = 2, .chunk = 4});
  m.owner.hand_out();
  const Range chunk = m.board.take(0);
  m.run({0, 1});
  m.owner.cancel();
  EXPECT_EQ(m.board.state(1), ItemState::kPending);
  EXPECT_EQ(m.board.state(4), ItemState::kCancelled);
  EXPECT_EQ(m.board.state(99), ItemState::kCancelled);
  EXPECT_FALSE(m.board.take(1));
  EXPECT_FALSE(m.owner.finished());
  m.run({1, 4}, ItemState::kCancelled);
  EXPECT_FALSE(m.board.next(0, chunk));
  EXPECT_TRUE(m.board.leave(0));
  EXPECT_TRUE(m.owner.finished());
  EXPECT_FALSE(m.owner.all_values());
}

TEST(RangeOwner, ADeathAfterCancelHandsOutNothing) {
  Memory m({.items = 100, .slots = 2, .chunk = 4});
  m.owner.hand_out();
  m.board.take(0);
  m.board.marks(0).begin(0);
  m.owner.cancel();
  const RangeRecovery found = m.owner.recover(0);
  ASSERT_EQ(found.culprits, std::vector<std::uint32_t>{0});
  EXPECT_FALSE(found.work);
  EXPECT_FALSE(m.owner.retry(0));
  EXPECT_TRUE(m.owner.finished());
  EXPECT_EQ(m.board.state(0), ItemState::kCancelled);
  EXPECT_EQ(m.owner.append(1), 0u);
}

TEST(RangeOwner, AWordScribbledOverByACrashLosesNoItem) {
  Memory m({.items = 30, .slots = 2, .chunk = 4});
  m.owner.hand_out();
  m.board.take(0);
  m.run({0, 2});
  m.board.marks(0).begin(2);
  RangeBoardPeek::own(m.board, 0).store(0xdead'beef'feed'f00d);
  EXPECT_FALSE(m.board.next(0, {0, 4})) << "a worker stops at a word that makes no sense";
  const RangeRecovery found = m.owner.recover(0);
  EXPECT_EQ(found.culprits, std::vector<std::uint32_t>{2});
  m.owner.fail(2);
  EXPECT_EQ(m.drain(1).size(), 27u);
  EXPECT_TRUE(m.owner.finished());
}

TEST(RangeOwner, ALiveWorkersWordScribbledOverIsFoundOnSuspicion) {
  Memory m({.items = 30, .slots = 2, .chunk = 4});
  m.owner.hand_out();
  m.board.take(0);
  m.run({0, 2});
  RangeBoardPeek::own(m.board, 0).store(0);
  EXPECT_EQ(m.drain(1).size(), 15u);
  m.owner.suspect_all();
  EXPECT_TRUE(m.owner.heal());
  EXPECT_EQ(m.drain(1).size(), 13u);
  EXPECT_TRUE(m.owner.finished());
}

}  // namespace
}  // namespace range_board_test
}  // namespace brood::detail
