#include <brood/sync/hashed_records.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

#include <brood/errors.hpp>

namespace brood::detail {

std::uint32_t hash_bytes(std::span<const std::byte> bytes) noexcept {
  std::uint64_t hash = 0x9e3779b97f4a7c15 ^ bytes.size();
  const auto mix = [&](std::uint64_t word) {
    hash = (hash ^ word) * 0xff51afd7ed558ccd;
    hash ^= hash >> 32U;
  };
  std::size_t at = 0;
  for (; bytes.size() - at >= sizeof(std::uint64_t); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof(word));
    mix(word);
  }
  if (at != bytes.size()) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, bytes.size() - at);
    mix(word);
  }
  hash *= 0xc4ceb9fe1a85ec53;
  return static_cast<std::uint32_t>(hash >> 32U);
}

bool HeldTable::same_cell(const Word* cell, const KeyView& key) const {
  const std::uint64_t first = load(cell[0]);
  if (!Cell::is_in_block(first)) {
    return key.words != nullptr && first == key.words[0] && load(cell[1]) == key.words[1] &&
           load(cell[2]) == key.words[2];
  }
  Cell::Words place;
  const std::span<const std::byte> bytes = bytes_of(cell, place);
  return bytes.size() == key.bytes.size() &&
         std::memcmp(bytes.data(), key.bytes.data(), bytes.size()) == 0;
}

// The commit is the store of the counts. SUBTLE: `stirred` from before the index is touched until
// the record counts: killed in between, the index names a record that is not there, or `live` and
// `top` lag behind.
auto HeldTable::insert(const KeyView& view, const Part& key, const Part& value) -> Word* {
  if (body_ == nullptr) {
    rebuild(kFirstRecords);
  } else if (count() == body_->capacity) {
    rebuild(std::max(kFirstRecords, std::bit_ceil(2 * size())));  // what is dead makes room, too
  }
  const std::uint64_t mask = (std::uint64_t{1} << body_->index_bits) - 1;
  std::uint64_t at = view.hash & mask;
  for (std::uint64_t tries = 0; place(at) != 0; at = (at + 1) & mask) {
    if (++tries > mask) throw DecodeError("the index of a container in shared memory is damaged");
  }
  const std::uint64_t n = count();
  Word* const it = record(n);
  store(it[0], kLive | view.hash);
  put(it + layout_.key_at(), layout_.key_words, key);
  put(it + layout_.value_at(), layout_.value_words, value);
  if (!key.block.empty() || !value.block.empty()) {
    set_counts(n, 1);
    give(key);
    give(value);
  }
  store(body_->stirred, 1);
  set_place(at, n + 1);
  store(body_->live, load(body_->live) + 1);
  store(body_->top, n + 1);
  set_counts(n + 1, 0);
  store(body_->stirred, 0);
  return it;
}

void HeldTable::erase(Word* it) {
  const auto i = static_cast<std::uint64_t>(it - records_) / layout_.stride();
  if (layout_.has_cells()) store(body_->doomed, i + 1);
  store(body_->stirred, 1);
  store(it[0], 0);  // the commit
  store(body_->live, load(body_->live) - 1);
  if (load(body_->top) == i + 1) store(body_->top, i);
  store(body_->stirred, 0);
  if (!layout_.has_cells()) return;
  free_cells(i);
  store(body_->doomed, 0);
}

void HeldTable::clear() {
  const std::uint64_t n = count();
  if (n == 0) return;
  store(body_->stirred, 1);
  set_counts(0, n);  // the commit
  clear_tail();
  if (body_->capacity > kKeptRecords) return install({});
  derive();
  store(body_->stirred, 0);
}

auto HeldTable::last() -> Word* {
  if (body_ == nullptr) return nullptr;
  std::uint64_t i = std::min(load(body_->top), count());
  while (i != 0 && !is_live(i - 1)) --i;
  store(body_->top, i);
  return i == 0 ? nullptr : record(i - 1);
}

void HeldTable::reserve(std::uint64_t records) {
  const std::uint64_t capacity = std::max(std::bit_ceil(records), kFirstRecords);
  if (body_ == nullptr || capacity > body_->capacity) rebuild(capacity);
}

void HeldTable::rebuild(std::uint64_t capacity) {
  const auto bits = static_cast<std::uint32_t>(std::bit_width(capacity - 1)) + 1;
  const Block block = make_body(capacity, bits);
  auto* const body = reinterpret_cast<RecordsBody*>(block.data);
  auto* to = reinterpret_cast<Word*>(body + 1);
  Place* const index = index_of(body, layout_);
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  std::uint64_t n = 0;
  for_each([&](const Word* from) {
    copy(from, to, layout_.stride());
    to += layout_.stride();
    std::uint64_t at = load(from[0]) & mask;
    while (index[at].load(std::memory_order_relaxed) != 0) at = (at + 1) & mask;
    // Nobody else sees it yet.
    index[at].store(static_cast<std::uint32_t>(++n), std::memory_order_relaxed);
  });
  store(body->counts, RecordsBody::pack(n, 0));
  store(body->live, n);
  store(body->top, n);
  install(block);
}

}  // namespace brood::detail
