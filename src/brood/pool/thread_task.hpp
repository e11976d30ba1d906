#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>

#include <brood/channel/local_task.hpp>
#include <brood/pool/item_context.hpp>
#include <brood/pool/map_call.hpp>
#include <brood/pool/thread_core.hpp>

namespace brood::detail {

/// What F gives for Args on a thread: it may want a std::stop_token in front of them.
template <class F, class... Args>
struct ThreadCall {
  static constexpr bool kPlain = std::is_invocable_v<F, Args...>;
  static constexpr bool kWithToken = !kPlain && std::is_invocable_v<F, std::stop_token, Args...>;
  static_assert(kPlain || kWithToken,
                "this cannot be called with these arguments, nor with a std::stop_token in front "
                "of them");

  static decltype(auto) call(F&& f, const std::stop_token& token, Args&&... args) {
    if constexpr (kWithToken) {
      return std::invoke(std::forward<F>(f), token, std::forward<Args>(args)...);
    } else {
      return std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
    }
  }
  using R = std::remove_cvref_t<decltype(call(std::declval<F>(), std::declval<std::stop_token>(),
                                              std::declval<Args>()...))>;
};

/// A submitted task of a thread pool: what its future refers to, and what waits for a thread.
template <class F, class... Args>
class ThreadTask final : public LocalResult<typename ThreadCall<F, Args...>::R>, public ThreadJob {
  using Call = ThreadCall<F, Args...>;

 public:
  template <class G, class... As>
  explicit ThreadTask(ItemNumber number, std::optional<std::uint64_t> seed, G&& f, As&&... args)
      : number_(number), seed_(seed) {
    work_.emplace(F(std::forward<G>(f)), std::tuple<Args...>(std::forward<As>(args)...));
    if constexpr (Call::kWithToken) token_ = this->stop_token();
  }

  void run() noexcept override {
    this->compute_by([&]() -> typename Call::R {
      // Gone before anybody sees the result.
      auto [f, args] = *std::move(work_);
      work_.reset();
      const ItemScope scope = number_.item == ItemNumber::kNone ? ItemScope(nullptr, nullptr, seed_)
                                                                : ItemScope(&number_.item, seed_);
      return std::apply(
          [&](Args&... each) ->
          typename Call::R { return Call::call(std::move(f), token_, std::move(each)...); },
          args);
    });
  }
  void drop() noexcept override { this->cancel(); }

 private:
  ItemNumber number_;
  std::optional<std::uint64_t> seed_;
  std::stop_token token_;
  std::optional<std::pair<F, std::tuple<Args...>>> work_;
};

/// A function that several tasks call: the same object, if it can be called as a constant.
template <class F>
class SharedFunction {
 public:
  explicit SharedFunction(std::shared_ptr<const F> f) : f_(std::move(f)) {}

  template <class... Args>
    requires std::is_invocable_v<const F&, Args...>
  decltype(auto) operator()(Args&&... args) const {
    return std::invoke(*f_, std::forward<Args>(args)...);
  }
  template <class... Args>
    requires(!std::is_invocable_v<const F&, Args...> && std::is_invocable_v<F&, Args...>)
  decltype(auto) operator()(Args&&... args) const {
    F own(*f_);
    return std::invoke(own, std::forward<Args>(args)...);
  }

 private:
  std::shared_ptr<const F> f_;
};

}  // namespace brood::detail
