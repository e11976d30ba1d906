#include <brood/sync/listed_records.hpp>

#include <algorithm>
#include <bit>

namespace brood::detail {

void HeldList::reserve(std::uint64_t more) {
  const std::uint64_t needed = count() + more;
  if (body_ != nullptr && needed <= body_->capacity) return;
  const std::uint64_t capacity = body_ == nullptr ? kFirstRecords : 2 * body_->capacity;
  rebuild(std::max(capacity, needed), {}, count());
}

// SUBTLE: the record is garbage by the counts before its block is given.
void HeldList::stage(const Part& value) {
  const std::uint64_t n = low(counts());
  const std::uint64_t tail = high(counts());
  put(record(n + tail), layout_.value_words, value);
  set_counts(n, tail + 1);
  give(value);
}

void HeldList::commit_staged() {
  if (body_ != nullptr) set_counts(low(counts()) + high(counts()), 0);
}

void HeldList::truncate(std::uint64_t size) {
  const std::uint64_t n = count();
  if (size >= n) return;
  set_counts(size, n - size);  // the commit
  clear_tail();
  if (size == 0 && body_->capacity > kKeptRecords) install({});
}

void HeldList::arrange(std::span<const std::uint32_t> order, std::uint64_t keep) {
  if (body_ == nullptr) return;
  rebuild(body_->capacity, order, keep);
  clear_tail();
}

void HeldList::rebuild(std::uint64_t capacity, std::span<const std::uint32_t> order,
                       std::uint64_t keep) {
  const Block block = make_body(capacity, 0);
  auto* const body = reinterpret_cast<RecordsBody*>(block.data);
  auto* const to = reinterpret_cast<Word*>(body + 1);
  const std::size_t stride = layout_.stride();
  if (order.empty()) {
    copy(records_, to, keep * stride);
    store(body->counts, RecordsBody::pack(keep, 0));
  } else {
    for (std::size_t i = 0; i != order.size(); ++i) copy(record(order[i]), to + i * stride, stride);
    store(body->counts, RecordsBody::pack(keep, order.size() - keep));
  }
  install(block);
}

}  // namespace brood::detail
