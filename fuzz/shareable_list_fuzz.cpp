// Reads and sets the slots of arbitrary bytes as those of a list. Whatever they are, either a
// DecodeError is thrown or values come out, and what is set afterwards is there.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <brood/errors.hpp>
#include <brood/memory/list_slots.hpp>

namespace {

using brood::detail::ListSlots;
using brood::detail::ListValue;

void read_and_set(std::span<std::byte> memory) {
  const ListSlots list(memory);
  for (std::size_t i = 0; i < list.size(); ++i) {
    try {
      static_cast<void>(list.get(i));
    } catch (const brood::DecodeError&) {
      continue;
    }
  }
  const std::string text("01234567");
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!list.set_text(i, 4, std::as_bytes(std::span(text)))) std::abort();
    if (list.get(i) != ListValue(text)) std::abort();
    list.set_small(i, std::int64_t{42});
    if (list.get(i) != ListValue(42)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint64_t> memory((size + 7) / 8);  // aligned as shared memory is
  if (size != 0) std::memcpy(memory.data(), data, size);
  try {
    read_and_set(std::as_writable_bytes(std::span(memory)).first(size));
  } catch (const brood::DecodeError&) {
    return 0;
  }
  return 0;
}
