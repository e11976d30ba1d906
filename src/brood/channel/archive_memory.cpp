#include <brood/channel/archive_memory.hpp>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {
namespace {

constexpr std::uint32_t kNew = 0x80000000U;  // cereal's mark for what has not been seen before

}  // namespace

void Nesting::throw_too_deep() {
  throw DecodeError(
      fmt::format("a value is nested more than {} classes deep and cannot cross to another "
                  "process: flatten it, "
                  "for instance a list of pointers into a std::vector; or its bytes are damaged",
                  kMost));
}

void ArchiveMemory::run_deferred() {
  for (const auto& action : std::exchange(deferred_, {})) action();
}

std::pair<std::size_t, bool> EncoderMemory::shared_object(std::shared_ptr<const void> object,
                                                          std::type_index type) {
  const auto [entry, is_new] = shared_.try_emplace({object.get(), type}, shared_.size());
  if (is_new) kept_.push_back(std::move(object));
  return {entry->second, is_new};
}

std::uint32_t EncoderMemory::polymorphic_pointer(const std::shared_ptr<const void>& pointer) {
  if (pointer == nullptr) return 0;
  const auto next = static_cast<std::uint32_t>(polymorphic_.size() + 1);
  const auto [entry, is_new] = polymorphic_.try_emplace(pointer.get(), next);
  if (is_new) kept_.push_back(pointer);
  return entry->second | (is_new ? kNew : 0);
}

std::uint32_t EncoderMemory::polymorphic_name(const std::string& name) {
  const auto next = static_cast<std::uint32_t>(names_.size() + 1);
  const auto [entry, is_new] = names_.try_emplace(name, next);
  return entry->second | (is_new ? kNew : 0);
}

std::size_t DecoderMemory::expect_shared_object(std::type_index type) {
  shared_.push_back({type, nullptr});
  return shared_.size() - 1;
}

std::shared_ptr<void> DecoderMemory::shared_object(std::size_t number, std::type_index type) const {
  if (number >= shared_.size() || shared_[number].type != type ||
      shared_[number].object == nullptr) {
    throw DecodeError(
        fmt::format("cannot decode: there is no shared object {} of this type among the {} so far; "
                    "the bytes are damaged, or it holds itself and has no default constructor",
                    number, shared_.size()));
  }
  return shared_[number].object;
}

std::uint32_t* DecoderMemory::version_of(std::type_index type) {
  const auto entry = versions_.find(type);
  return entry == versions_.end() ? nullptr : &entry->second;
}

std::uint32_t DecoderMemory::note_version(std::type_index type, std::uint32_t version) {
  return versions_.insert_or_assign(type, version).first->second;
}

std::shared_ptr<void> DecoderMemory::polymorphic_pointer(std::uint32_t id) const {
  if (id == 0) return nullptr;
  const auto entry = polymorphic_.find(id);
  if (entry == polymorphic_.end()) {
    throw DecodeError(fmt::format("cannot decode: there is no shared object {} so far", id));
  }
  return entry->second;
}

void DecoderMemory::note_polymorphic_pointer(std::uint32_t id, std::shared_ptr<void> pointer) {
  polymorphic_.insert_or_assign(id & ~kNew, std::move(pointer));
}

const std::string& DecoderMemory::polymorphic_name(std::uint32_t id) const {
  const auto entry = names_.find(id);
  if (entry == names_.end()) {
    throw DecodeError(fmt::format("cannot decode: there is no class {} so far", id));
  }
  return entry->second;
}

void DecoderMemory::note_polymorphic_name(std::uint32_t id, const std::string& name) {
  names_.try_emplace(id & ~kNew, name);
}

}  // namespace brood::detail
