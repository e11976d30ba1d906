#include <brood/channel/queue_core.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <brood/channel/ring_wait.hpp>
#include <brood/errors.hpp>
#include <brood/memory/object_kind.hpp>
#include <brood/memory/objects.hpp>

namespace brood::detail {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kLeastFirst = 6;
constexpr std::uint32_t kMostFirst = 10;  // 64 KiB; larger queues grow when they need it
constexpr std::uint32_t kSpare = 16;      // slots for messages that are being read

/// The objects that are named, each once.
std::vector<ObjectRef> names_of(const std::vector<Handle>& kept) {
  std::vector<ObjectRef> refs;
  refs.reserve(kept.size());
  for (const Handle& handle : kept) refs.push_back(handle.ref());
  std::ranges::sort(refs);
  refs.erase(std::ranges::unique(refs).begin(), refs.end());
  return refs;
}

SharedOwner owner_of(ObjectRef ref) { return SharedOwner{ref.index + 1}; }

}  // namespace

void QueueMessageSink::seal() {
  if (!keeps()) return;
  const std::vector<ObjectRef> refs = names_of(kept());
  const std::size_t bytes = written();
  const std::size_t more = links_at(bytes) - kHead - bytes + refs.size() * sizeof(ObjectLink<>);
  if (block_.empty() || room() < more) grow(more);
  std::byte* at = block_.data + links_at(bytes);
  for (const ObjectRef ref : refs) {
    new (at) ObjectLink<>{.ref = ref, .held = 0, .reserved = 0};
    at += sizeof(ObjectLink<>);
  }
  new (block_.data) Head{.position = 0, .links = refs.size()};
}

/// What waiting needs, for a call.
class QueueCore::World {
 public:
  World(const QueueCore& core, QueueSide& side, Deadline deadline)
      : core_(&core), member_(&core.handle_.member()), deadline_(deadline), waiting_(side) {}

  [[nodiscard]] Tag self() const { return member_->self(); }
  [[nodiscard]] std::uint32_t epoch() const {
    unsettled_ = false;
    return core_->epoch();
  }
  [[nodiscard]] bool dead(Tag tag) const {
    const bool gone = member_->registry().over(tag);
    // Somebody whose end is near: it must be looked for again.
    unsettled_ = unsettled_ || (!gone && !member_->registry().alive(tag));
    return gone;
  }
  void clean(const Held& held) const { free_block(*member_, owner_of(core_->handle_.ref()), held); }
  [[nodiscard]] bool grow(const Ring<>& ring) const {
    const auto growth = ring.growth();
    if (!growth.possible) return false;
    if (!growth.missing) return ring.stop();
    Extent extent;
    try {
      extent =
          member_->objects().add_extent(core_->handle_.ref(), Ring<>::slots_bytes(growth.bits));
    } catch (const SharedMemoryFull&) {
      if (!core_->waits_for_memory()) throw;
      return false;
    }
    Ring<>::clear_slots(extent.data, growth.bits);
    if (!install_and_stop(ring, growth, member_->segment().offset_of(extent.data))) {
      member_->objects().return_extent(core_->handle_.ref(), extent);
    }
    return true;
  }
  [[nodiscard]] Member::Glance look() const { return member_->look(); }
  void sleep(Member::Glance look, const std::atomic<std::uint32_t>& word,
             std::uint32_t expected) const {
    const FutexWord one{&word, expected};
    // A killed process whose threads were not all gone when it was looked for is looked for soon.
    member_->sleep(look, {&one, 1},
                   unsettled_ ? deadline_.sooner(Deadline::after(1ms)) : deadline_);
  }
  void nap(unsigned round) const {
    const auto time = std::min(std::chrono::microseconds(10) * (1U << std::min(round, 10U)),
                               std::chrono::microseconds(5ms));
    if (round > 2)
      std::this_thread::sleep_for(time);
    else
      std::this_thread::yield();
  }
  bool spin() { return !deadline_.is_now() && waiting_.pause(); }
  void found() { waiting_.found(); }
  [[nodiscard]] bool settled() const { return !unsettled_; }
  [[nodiscard]] bool passed() const { return deadline_.passed(); }

 private:
  const QueueCore* core_;
  Member* member_;
  Deadline deadline_;
  QueueSide::Wait waiting_;
  mutable bool unsettled_ = false;
};

/// See docs/design/wait.md.
class QueueCore::Watching final : public Watch {
 public:
  explicit Watching(const QueueCore& core) : core_(core) {}

  bool look(std::vector<FutexWord>& words, Deadline& soon) override {
    const World world(core_, core_.taking_, Deadline::now());
    const Ring<>& ring = core_.ring_;
    std::uint32_t expected = 0;
    found_ = look_for_message(ring, world, expected);
    if (found_ == RingStep::done || found_ == RingStep::closed) return true;
    // As for who takes: see World::sleep, and why `pended` is not waited for long.
    if (!world.settled()) soon = soon.sooner(Deadline::after(1ms));
    if (found_ == RingStep::pended) soon = soon.sooner(Deadline::after(5ms));
    words.push_back({&ring.items(), expected});
    return false;
  }
  void pass_on() noexcept override { core_.ring_.pass_on(found_); }

 private:
  QueueCore core_;
  RingStep found_ = RingStep::wait;
};

std::shared_ptr<Watch> QueueCore::watch() const { return std::make_shared<Watching>(*this); }

Handle QueueCore::create(ObjectType type, const Shape& shape) {
  if (shape.maxsize > std::size_t{1} << 40U) {
    throw StateError(
        fmt::format("a queue of at most {} messages: that many cannot be; 0 is for "
                    "no limit",
                    shape.maxsize));
  }
  const std::uint32_t wanted =
      shape.maxsize == 0 ? 8 : static_cast<std::uint32_t>(std::bit_width(shape.maxsize + kSpare));
  const std::uint32_t bits = std::clamp(wanted, kLeastFirst, kMostFirst);
  const std::size_t bytes = sizeof(Header) + Ring<>::header_bytes() + Ring<>::slots_bytes(bits);
  Handle handle = Handle::create(type, bytes);
  auto* header = new (handle.payload().data()) Header{};
  header->maxsize = shape.maxsize;
  header->wait_for_memory = shape.wait_for_memory ? 1 : 0;
  Segment& segment = handle.member().segment();
  const std::uint64_t at = segment.offset_of(handle.payload().data()) + sizeof(Header);
  Ring<>::format(
      segment.at(0), at, at + Ring<>::header_bytes(),
      {.limit = shape.maxsize == 0 ? Ring<>::kUnlimited : shape.maxsize, .first_bits = bits});
  return handle;
}

Ring<> QueueCore::ring_in(const Handle& handle) {
  if (handle.payload().size() < sizeof(Header) + Ring<>::header_bytes()) {
    throw DecodeError("there is no queue where one is expected in shared memory");
  }
  Segment& segment = handle.member().segment();
  return Ring<>::attach(segment.at(0), segment.offset_of(handle.payload().data()) + sizeof(Header));
}

QueueCore::QueueCore(ObjectType type, Shape shape) : QueueCore(create(type, shape)) {}
QueueCore::QueueCore(Handle handle) : handle_(std::move(handle)), ring_(ring_in(handle_)) {}

// By whoever let go of it last, or cleans up after who did: what nobody will take.
void QueueCore::at_end(ObjectRef ref, std::span<std::byte> payload) noexcept {
  const auto member = Member::current();
  if (member == nullptr || payload.size() < sizeof(Header) + Ring<>::header_bytes()) return;
  Segment& segment = member->segment();
  try {
    const Ring<> ring =
        Ring<>::attach(segment.at(0), segment.offset_of(payload.data()) + sizeof(Header));
    ring.for_each_slot([&](const Held& held) { free_block(*member, owner_of(ref), held); });
  } catch (const Error&) {
    return;  // never finished
  }
}

std::size_t QueueCore::maxsize() const { return static_cast<std::size_t>(header().maxsize); }

auto QueueCore::claim_slowly(Deadline deadline) const -> std::optional<Held> {
  Held held;
  return claim_slowly({&held, 1}, deadline) == 1 ? std::optional(held) : std::nullopt;
}

auto QueueCore::claim_slowly(std::span<Held> out, Deadline deadline) const -> std::size_t {
  World world(*this, putting_, deadline);
  std::size_t got = 0;
  switch (wait_to_claim(ring_, world, out, got, putting_.hint)) {
    case RingStep::done:
      world.found();
      return got;
    case RingStep::closed:
      throw QueueClosed("the queue is closed: nothing can be put into it any more");
    default:
      return 0;
  }
}

void QueueCore::put_images(const void* from, std::size_t count, std::size_t size) const {
  const auto* bytes = static_cast<const std::byte*>(from);
  std::array<Held, kBatch> slots;
  while (count > 0) {
    const std::span<Held> wanted = std::span(slots).first(std::min(count, kBatch));
    std::size_t got = 0;
    if (ring_.claim(handle_.member().self(), wanted, got, putting_.hint) != RingStep::done) {
      got = claim_slowly(wanted, Deadline::never());
    }
    for (const Held& held : wanted.first(got)) {
      write_image(held, bytes, size);
      bytes += size;
    }
    ring_.commit(wanted.first(got));
    count -= got;
  }
}

// SUBTLE: the slot names the block before the block is the queue's, and `kind` says so last.
// Whoever recovers from a death in here finds, with `kind`, a block that is the queue's with this
// position in it, which he frees; or one that is still the dead's, which the heap frees (R4).
void QueueCore::put(const Held& held, QueueMessageSink& message) const {
  const std::size_t size = message.written();
  if (message.block().empty()) return put_image(held, message.small().data(), size);
  const Block block = message.block();
  auto* const head = reinterpret_cast<QueueMessageSink::Head*>(block.data);
  head->position = held.position;
  const std::uint64_t links = head->links;
  Member& member = handle_.member();
  const BlockRef ref{member.segment().offset_of(block.data), size};
  std::memcpy(held.slot->payload, &ref, sizeof(ref));
  held.slot->size = sizeof(ref);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  held.slot->kind = kBlock;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  message.forget_block();
  member.heap().give(block, owner_of(handle_.ref()));
  // Only now: until here nobody else would have known that there is something to unlink.
  for (std::uint64_t i = 0; i != links; ++i) {
    member.objects().link(ref.at + QueueMessageSink::links_at(size) + i * sizeof(ObjectLink<>),
                          member.self());
  }
  ring_.commit(held);
}

auto QueueCore::take_slowly(Held& held, bool lease, Deadline deadline) const -> Taken {
  std::size_t got = 0;
  return take({&held, 1}, got, lease, deadline);
}

auto QueueCore::take(std::span<Held> out, std::size_t& got, bool lease, Deadline deadline) const
    -> Taken {
  World world(*this, taking_, deadline);
  switch (wait_to_take(ring_, world, out, got, lease, taking_.hint)) {
    case RingStep::done:
      world.found();
      return Taken::message;
    case RingStep::closed:
      return Taken::end;
    default:
      return Taken::nothing;
  }
}

ByteSource QueueCore::bytes_of_block(const Held& held) const {
  const Ring<>::Slot& slot = *held.slot;
  if (slot.kind != kBlock) throw DecodeError("a message in a queue is of no known kind");
  BlockRef ref{};
  std::memcpy(&ref, slot.payload, sizeof(ref));
  const std::byte* data =
      handle_.member().segment().checked(ref.at, ref.bytes + QueueMessageSink::kHead);
  return ByteSource({data + QueueMessageSink::kHead, static_cast<std::size_t>(ref.bytes)});
}

void QueueCore::release_block(const Held& taken) const {
  Held held = taken;
  ring_.finish(held);
  free_block(handle_.member(), owner_of(handle_.ref()), held);
  ring_.release(held);
}

// Whose it is, and the position: somebody may have been killed after he had freed it, and it be
// another message's.
void QueueCore::free_block(Member& member, SharedOwner owner, const Held& held) noexcept {
  if (held.slot->kind != kBlock) return;
  BlockRef ref{};
  std::memcpy(&ref, held.slot->payload, sizeof(ref));
  if (!member.heap().is_shared(ref.at, owner)) return;
  try {
    Segment& segment = member.segment();
    QueueMessageSink::Head head{};
    std::memcpy(&head, segment.checked(ref.at, sizeof(head)), sizeof(head));
    if (head.position != held.position) return;
    if (head.links != 0) {
      const std::uint64_t first = ref.at + QueueMessageSink::links_at(ref.bytes);
      const std::size_t most = segment.size() / sizeof(ObjectLink<>);
      static_cast<void>(segment.checked(first, std::min(head.links, most) * sizeof(ObjectLink<>)));
      for (std::uint64_t i = 0; i != head.links; ++i) {
        member.objects().unlink(first + i * sizeof(ObjectLink<>), member.self());
      }
    }
    // All of it was written: who uses it next need not ask for pages again, which is as slow as
    // copying them.
    member.heap().free_shared(ref.at, owner, QueueMessageSink::kHead + ref.bytes);
  } catch (const DecodeError&) {
    return;  // somebody wrote over it
  }
}

void QueueCore::wait_for_memory(unsigned round, Deadline deadline) const {
  World(*this, putting_, deadline).nap(round);
}

void QueueCore::close() const {
  World world(*this, putting_, Deadline::never());
  detail::close(ring_, world);
}

void QueueCore::look_for_dead() const {
  World world(*this, taking_, Deadline::now());
  heal(ring_, world);
}

bool QueueCore::join(Deadline deadline) const {
  World world(*this, taking_, deadline);
  ring_.tell_of_releases();
  for (;;) {
    const auto look = world.look();
    heal(ring_, world);
    const std::uint32_t expected = Ring<>::announce_sleep(ring_.items());
    const Ring<>::Holds holds = ring_.holds(Tag());
    if (holds.others == 0 && ring_.size() == 0) return true;
    if (deadline.passed()) return false;
    // SUBTLE: a release is a plain store, and may be seen after its look for sleepers: not for
    // long.
    World brief(*this, taking_, deadline.sooner(Deadline::after(20ms)));
    brief.sleep(look, ring_.items(), expected);
  }
}

// Before main: the fork server, which cleans up after the dead, is forked at its beginning.
const bool QueueCore::kEndKnown = [] {
  Objects::at_end(static_cast<std::uint32_t>(ObjectKind::queue), &QueueCore::at_end);
  return true;
}();

}  // namespace brood::detail
