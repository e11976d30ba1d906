#include <algorithm>
#include <array>

#include <brood/channel/queue_core.hpp>
#include <brood/errors.hpp>
#include <brood/log.hpp>
#include <brood/memory/object_kind.hpp>
#include <brood/memory/objects.hpp>
#include <brood/sync/event_word.hpp>
#include <brood/sync/lock_word.hpp>
#include <brood/sync/semaphore_word.hpp>
#include <brood/sync/shared_lock_word.hpp>

#include "snapshot.hpp"

namespace brood::top {
namespace {

using detail::ObjectKind;
using detail::Tag;

constexpr std::array<const char*, 21> kKinds{
    "unknown",       "lock",    "rlock",        "semaphore",      "bounded semaphore",
    "condition",     "event",   "barrier",      "shared lock",    "value",
    "array",         "guarded", "shared array", "shareable list", "queue",
    "dict",          "list",    "set",          "namespace",      "manager",
    "managed object"};
static_assert(static_cast<std::size_t>(ObjectKind::managed) == kKinds.size() - 1);

/// The family that is looked at, for the words: they ask who is dead, and nothing else.
const detail::Registry* looked_at = nullptr;

struct Outside : detail::Environment {
  static Tag self() { return {}; }
  static bool dead(Tag tag) noexcept { return !looked_at->alive(tag); }
};
using LockWord = detail::LockWord<Outside>;
using SharedLockWord = detail::SharedLockWord<Outside>;
using SemaphoreWord = detail::SemaphoreWord<Outside>;
using EventWord = detail::EventWord<Outside>;

/// The payload as a T, if it is large enough.
template <class T>
const T* as(const std::byte* payload, std::size_t bytes) {
  return bytes >= sizeof(T) ? reinterpret_cast<const T*>(payload) : nullptr;
}

void look_into(ObjectView& view, ObjectKind kind, const std::byte* payload,
               detail::Segment& family) {
  switch (kind) {
    case ObjectKind::lock:
    case ObjectKind::rlock:
    case ObjectKind::value:
    case ObjectKind::array:
    case ObjectKind::guarded:  // all of them begin with their lock
      if (const auto* lock = as<LockWord>(payload, view.bytes)) {
        view.lockable = true;
        view.owner = lock->holder();
        view.owner_died = lock->owner_died();
      }
      return;
    case ObjectKind::shared_lock:
      if (const auto* lock = as<SharedLockWord>(payload, view.bytes)) {
        view.lockable = true;
        if (lock->locked()) view.owner = as<LockWord>(payload, view.bytes)->holder();
        view.owner_died = lock->owner_died();
        view.readers = lock->readers();
      }
      return;
    case ObjectKind::semaphore:
    case ObjectKind::bounded_semaphore:
      if (const auto* semaphore = as<SemaphoreWord>(payload, view.bytes)) {
        if (SemaphoreWord::bytes_needed(semaphore->capacity()) > view.bytes) return;
        view.permits = semaphore->value();
        view.capacity = semaphore->capacity();
      }
      return;
    case ObjectKind::event:
      if (const auto* event = as<EventWord>(payload, view.bytes)) view.set = event->is_set();
      return;
    case ObjectKind::queue: {
      if (view.bytes < detail::QueueCore::kRingAt + detail::Ring<>::header_bytes()) return;
      const auto ring = detail::Ring<>::attach(
          family.at(0), family.offset_of(payload) + detail::QueueCore::kRingAt);
      view.depth = ring.size();
      view.maxsize = ring.limit() == detail::Ring<>::kUnlimited ? 0 : ring.limit();
      view.closed = ring.closing();
      return;
    }
    default:
      return;
  }
}

}  // namespace

std::vector<ObjectView> look_at_objects(detail::Segment& family) {
  looked_at = &family.registry();
  constexpr std::size_t kMost = 10'000;  // to be shown
  std::vector<ObjectView> views;
  const std::uint32_t end = std::min(family.header().objects.high.load(), family.most_objects());
  for (std::uint32_t index = 0; index != end && views.size() < kMost; ++index) {
    detail::ObjectEntry<>& entry = family.objects()[index];
    const auto word = detail::ObjectWord::unpack(entry.word.load());
    if (word.state == detail::ObjectState::free || word.state == detail::ObjectState::making) {
      continue;
    }
    const std::uint32_t kind = entry.type.kind;
    ObjectView view{.index = index,
                    .kind = kind < kKinds.size() ? kKinds[kind] : kKinds[0],
                    .bytes = entry.bytes};
    for (const auto& bits : entry.holders) {
      view.holders += static_cast<std::size_t>(std::popcount(bits.load()));
    }
    const std::uint64_t payload_at = entry.payload_at;
    const std::byte* payload = entry.inline_payload.data();
    try {
      if (payload_at != 0) {
        payload = family.checked(payload_at, view.bytes);
      } else {
        view.bytes = std::min<std::uint64_t>(view.bytes, entry.inline_payload.size());
      }
      view.payload_begin = family.offset_of(payload);
      view.payload_end = view.payload_begin + view.bytes;
      look_into(view, static_cast<ObjectKind>(kind), payload, family);
      view.is_log = entry.type == detail::object_type<log::Record>(ObjectKind::queue);
    } catch (const Error& e) {
      static_cast<void>(e);  // it was changed meanwhile, or is damaged: what is known is shown
    }
    views.push_back(std::move(view));
  }
  return views;
}

}  // namespace brood::top
