// What is called on another machine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/channel/callable.hpp>
#include <brood/channel/codec.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/map_call.hpp>
#include <brood/pool/worker.hpp>

namespace brood::detail {

/// What `compute` throws says which item it was, when `item` is a number.
template <class Compute>
auto compute_item(const std::uint64_t& item, Compute&& compute) {
  using R = decltype(compute());
  std::conditional_t<std::is_void_v<R>, bool, std::optional<R>> result{};
  ErrorRecord error;
  const bool good = run_catching(
      [&] {
        if constexpr (std::is_void_v<R>) {
          compute();
        } else {
          result.emplace(compute());
        }
      },
      error);
  if (!good) {
    if (item != ItemNumber::kNone) error.item = static_cast<std::size_t>(item);
    throw_error(error);
  }
  if constexpr (!std::is_void_v<R>) return *std::move(result);
}

/// A block of a map_reduce(), mapped and reduced where it is.
template <class Result, class F, class G, class... Blocks>
struct FarBlock {
  Result operator()(const F& f, const G& g, std::uint64_t size, std::uint64_t block,
                    const Blocks&... inputs) const {
    std::uint64_t item = block * size;
    const ItemScope* const outer = ItemScope::current();
    const ItemScope scope(&item, outer != nullptr ? outer->seed() : std::nullopt);
    return compute_item(item, [&]() -> Result {
      const auto compute = [&](std::uint64_t i) {
        item = block * size + i;
        return static_cast<Result>(std::invoke(f, inputs[i]...));
      };
      Result result = compute(0);
      const std::uint64_t count = std::min({static_cast<std::uint64_t>(inputs.size())...});
      for (std::uint64_t i = 1; i < count; ++i) {
        result = static_cast<Result>(std::invoke(g, std::move(result), compute(i)));
      }
      return result;
    });
  }
};

/// The thunk of a task far away: the callable, which all items of a call share, then the number,
/// then the arguments.
template <class F, class Arguments, class R, bool Spread>
void run_far(ByteSource& call, TaskOutput& output) {
  F function = decode_callable<F>(call);
  const auto number = decode<ItemNumber>(call);
  auto arguments = decode<Arguments>(call);
  const ItemScope scope = number.item == ItemNumber::kNone
                              ? ItemScope(nullptr, nullptr, number.seed)
                              : ItemScope(&number.item, number.seed);
  const auto compute = [&]() -> R {
    if constexpr (Spread) {
      return std::apply(function, std::get<0>(std::move(arguments)));
    } else {
      return invoke_stored(function, std::move(arguments));
    }
  };
  if constexpr (std::is_void_v<R>) {
    compute_item(number.item, compute);
    output.put_nothing();
  } else {
    output.put(static_cast<const R&>(compute_item(number.item, compute)));
  }
}

}  // namespace brood::detail
