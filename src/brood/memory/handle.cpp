#include <brood/memory/handle.hpp>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/member.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood::detail {
namespace {

/// Throws unless this process is the one that its member says: a copy by fork(2) has all of its
/// parent's memory, but is not in the family.
void require_own(Member& member) {
  if (member.is_this_process()) return;
  throw StateError(fmt::format(
      "process {} is a copy of a process of the family, made by fork() and not by Brood: start it "
      "as a brood::Process to use shared objects in it",
      current_pid()));
}

}  // namespace

// --- Handle --------------------------------------------------------------------------------------

void Handle::throw_empty() {
  throw StateError("this handle to a shared object was moved from: it refers to nothing");
}

Handle Handle::create(ObjectType type, std::size_t bytes, std::size_t capacity) {
  const std::shared_ptr<Member> member = Member::require();
  require_own(*member);
  const ObjectRef ref = member->objects().create(type, bytes, capacity, member->self());
  return member->handles().add(member, ref);
}

Handle Handle::adopt(ObjectRef ref, ObjectType type, std::size_t least) {
  const std::shared_ptr<Member> member = Member::require();
  require_own(*member);
  Handle handle = member->handles().find_or_adopt(member, ref);
  if (!handle) {
    throw ObjectGone(fmt::format(
        "shared object {}.{} is gone: the last process that held it has ended or let go", ref.index,
        ref.generation));
  }
  if (member->objects().type(ref) != type || handle.payload().size() < least) {
    throw DecodeError(fmt::format(
        "cannot decode: shared object {}.{} is of another type; the bytes are damaged, or of a "
        "value of another type",
        ref.index, ref.generation));
  }
  return handle;
}

std::size_t Handle::capacity() const { return member().objects().payload_capacity(ref()); }

void Handle::release(HandleBlock* block) noexcept {
  std::size_t count = block->count.load(std::memory_order_relaxed);
  while (count > 1) {
    // release: pairs with the acquire of the last one, which is the mutex's.
    if (block->count.compare_exchange_weak(count, count - 1, std::memory_order_acq_rel)) return;
  }
  // The block holds the member; whoever deletes the block may delete the member.
  const std::shared_ptr<Member> member = block->member;
  member->handles().release(block);
}

// --- HandleTable
// -----------------------------------------------------------------------------------

Handle HandleTable::insert(const std::shared_ptr<Member>& member, ObjectRef ref) {
  auto block = std::make_unique<HandleBlock>();
  const std::span<std::byte> payload = member->objects().payload(ref);
  block->member = member;
  block->ref = ref;
  block->payload = payload.data();
  block->bytes = payload.size();
  blocks_.insert_or_assign(ref.index, block.get());
  return Handle(block.release());
}

Handle HandleTable::add(const std::shared_ptr<Member>& member, ObjectRef ref) {
  const std::scoped_lock guard(mutex_);
  try {
    return insert(member, ref);
  } catch (...) {
    member->objects().drop(ref, member->self(), member->self());
    throw;
  }
}

// SUBTLE: under the mutex from the look into the table to the change of the object, or the last
// handle, dropped by another thread, could take this process's hold away from the first one of a
// new block. A count that has fallen to 0 is never seen here: it falls under the mutex, and the
// block goes with it.
Handle HandleTable::find_or_adopt(const std::shared_ptr<Member>& member, ObjectRef ref) {
  const std::scoped_lock guard(mutex_);
  if (const auto found = blocks_.find(ref.index);
      found != blocks_.end() && found->second->ref == ref) {
    found->second->count.fetch_add(1, std::memory_order_relaxed);
    return Handle(found->second);
  }
  // NOTE: an object at the same place, of another generation, that this process holds cannot be
  // there as well: what is held is not gone.
  if (!member->objects().adopt(ref, member->self(), member->self())) return {};
  try {
    return insert(member, ref);
  } catch (...) {
    member->objects().drop(ref, member->self(), member->self());
    throw;
  }
}

void HandleTable::release(HandleBlock* block) noexcept {
  const std::unique_ptr<HandleBlock> last([&]() -> HandleBlock* {
    const std::scoped_lock guard(mutex_);
    if (block->count.fetch_sub(1, std::memory_order_acq_rel) != 1) return nullptr;
    const auto found = blocks_.find(block->ref.index);
    // A copy of another process's handle (see begin_as) is nobody's any more.
    if (found != blocks_.end() && found->second == block) {
      blocks_.erase(found);
      if (member_->is_this_process()) {
        member_->objects().drop(block->ref, member_->self(), member_->self());
      }
    }
    return block;
  }());
}

std::vector<Handle> HandleTable::inherit(const std::shared_ptr<Member>& member, Tag dead) {
  std::vector<ObjectRef> refs;
  member->objects().for_each([&](ObjectRef ref, const ObjectEntry<>&) {
    if (member->objects().held(ref, dead)) refs.push_back(ref);
  });
  std::vector<Handle> handles;
  handles.reserve(refs.size());
  for (const ObjectRef ref : refs) {
    if (Handle handle = find_or_adopt(member, ref)) handles.push_back(std::move(handle));
  }
  return handles;
}

void HandleTable::prepare_fork(Tag child) {
  for (const auto& [index, block] : blocks_) {
    member_->objects().adopt(block->ref, child, member_->self());
  }
  prepared_for_ = child;
}

void HandleTable::begin_as(Tag self) noexcept {
  if (prepared_for_ != self) blocks_.clear();
  prepared_for_ = Tag();
}

std::size_t HandleTable::size() const {
  const std::scoped_lock guard(mutex_);
  return blocks_.size();
}

}  // namespace brood::detail
