#include <brood/pool/item_context.hpp>

#include <span>

#include <brood/current_item.hpp>
#include <brood/platform/random.hpp>
#include <brood/random_stream.hpp>

namespace brood {
namespace detail {
namespace {

/// splitmix64: neighbouring numbers become unlike each other.
constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111eb;
  return x ^ (x >> 31U);
}

}  // namespace

std::uint64_t fresh_seed() {
  std::uint64_t seed = 0;
  fill_random(std::as_writable_bytes(std::span(&seed, 1)));
  return seed;
}

std::mt19937_64& ItemScope::stream() {
  const std::size_t item = this->item().value_or(0);
  if (streaming_ && item == streamed_) return *stream_;
  const std::uint64_t seed = mix(mix(seed_ ? *seed_ : fresh_seed()) + item);
  if (stream_) {
    stream_->seed(seed);
  } else {
    stream_ = std::make_unique<std::mt19937_64>(seed);
  }
  streamed_ = item;
  streaming_ = true;
  return *stream_;
}

WorkerStates& WorkerStates::current() {
  if (current_ != nullptr) return *current_;
  static thread_local WorkerStates own;
  return own;
}

}  // namespace detail

std::optional<std::size_t> current_item() {
  const detail::ItemScope* const scope = detail::ItemScope::current();
  return scope != nullptr ? scope->item() : std::nullopt;
}

std::mt19937_64& random_stream() {
  if (detail::ItemScope* const scope = detail::ItemScope::current()) return scope->stream();
  static thread_local std::mt19937_64 own(detail::fresh_seed());
  return own;
}

}  // namespace brood
