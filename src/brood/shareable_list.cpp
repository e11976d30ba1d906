#include <brood/shareable_list.hpp>

#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/file_lock.hpp>
#include <brood/platform/named_memory.hpp>

namespace brood {

using detail::ListSlots;
using detail::SharedMemoryAccess;

ShareableList detail::SharedMemoryAccess::attach_list(std::string_view name,
                                                      const FileIdentity& identity) {
  return ShareableList(attach_with_file(name, &identity));
}

ShareableList::ShareableList(SharedMemory memory)
    : memory_(std::move(memory)), slots_(std::make_shared<ListSlots>(memory_.bytes())) {}

SharedMemory ShareableList::make(std::span<const Value> values, const Options& options) {
  return SharedMemoryAccess::create_with_file(
      ListSlots::bytes_needed(values, options.least_room),
      {.name = options.name, .lifetime = options.lifetime},
      [&](SharedMemory::Bytes bytes) { ListSlots::format(bytes, values, options.least_room); });
}

ShareableList ShareableList::attach(std::string_view name) {
  return ShareableList(SharedMemoryAccess::attach_with_file(name, nullptr));
}

const ListSlots& ShareableList::slots() const {
  if (slots_ == nullptr) static_cast<void>(memory_.size());  // which throws, and says why
  return *slots_;
}

const ListSlots& ShareableList::slots_with(std::size_t index) const {
  const ListSlots& all = slots();
  if (index >= all.size()) {
    throw ArgumentError(
        fmt::format("there is no slot {} in list \"{}\", which has {}", index, name(), all.size()));
  }
  return all;
}

std::size_t ShareableList::size() const { return slots().size(); }
std::size_t ShareableList::room(std::size_t index) const { return slots_with(index).room(index); }

ShareableList::Value ShareableList::get(std::size_t index) const {
  const ListSlots& all = slots_with(index);
  if (auto value = all.get(index)) return std::move(*value);
  // Long text that others set again and again: they wait now.
  const detail::FileLock lock(SharedMemoryAccess::descriptor(memory_), index,
                              detail::Deadline::never());
  if (auto value = all.get(index)) return std::move(*value);
  throw DecodeError(fmt::format("slot {} of list \"{}\" never stands still", index, name()));
}

void ShareableList::set_until(std::size_t index, const Value& value,
                              detail::Deadline deadline) const {
  const ListSlots& all = slots_with(index);
  if (!ListSlots::is_text(value)) return all.set_small(index, value);
  const auto text = ListSlots::text_of(value);
  if (text.size() > all.room(index)) {
    throw ArgumentError(
        fmt::format("a value of {} bytes does not fit into slot {} of list \"{}\", "
                    "which has room for {}: make the list with a larger least_room",
                    text.size(), index, name(), all.room(index)));
  }
  const detail::FileLock lock(SharedMemoryAccess::descriptor(memory_), index, deadline);
  if (!all.set_text(index, static_cast<std::uint8_t>(value.index()), text)) {
    throw DecodeError(
        fmt::format("somebody sets slot {} of list \"{}\" without its lock", index, name()));
  }
}

std::optional<std::size_t> ShareableList::index(const Value& value) const {
  for (std::size_t i = 0, end = size(); i < end; ++i) {
    if (get(i) == value) return i;
  }
  return std::nullopt;
}

std::size_t ShareableList::count(const Value& value) const {
  std::size_t found = 0;
  for (std::size_t i = 0, end = size(); i < end; ++i) found += get(i) == value ? 1 : 0;
  return found;
}

void ShareableList::close() noexcept {
  slots_.reset();
  memory_.close();
}

}  // namespace brood
