// Layer: pool
// Several futures at once, of one pool or of many, of processes and of threads.
//
//     for (brood::Future<Page>& page : brood::as_completed(pages)) index(page.get());
//     if (!brood::wait_all(pages, std::chrono::seconds(10))) complain();
//     const std::size_t first = brood::wait_any(pages);
//     switch (brood::wait_any(answer, question)) ...       // of different types
//
// All futures must be valid(), and stay where they are meanwhile. One thread at a time; no other
// may use the futures. Nothing is fetched: get() does not wait then. For queues, connections and
// processes beside futures there is brood::wait(). Errors: StateError for a future whose result was
// fetched, and where there is nothing to wait for; TimeoutError as said; what made a pool unusable.
#pragma once

#include <chrono>
#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <brood/channel/completion_queue.hpp>
#include <brood/errors.hpp>
#include <brood/future.hpp>
#include <brood/wait.hpp>

namespace brood {

namespace detail {

template <class T>
inline constexpr bool kIsFuture = false;
template <class R>
inline constexpr bool kIsFuture<Future<R>> = true;

template <class T>
concept AnyFuture = kIsFuture<std::remove_cvref_t<T>>;
template <class Range>
concept FutureRange = std::ranges::forward_range<Range> &&
                      std::is_lvalue_reference_v<std::ranges::range_reference_t<Range>> &&
                      AnyFuture<std::ranges::range_reference_t<Range>>;

template <FutureRange Range>
std::optional<std::size_t> wait_for_any(Range& futures, Deadline deadline) {
  const std::vector<Waitable> all(std::ranges::begin(futures), std::ranges::end(futures));
  const std::vector<std::size_t> ready = wait_until(all, deadline);
  return ready.empty() ? std::nullopt : std::optional(ready.front());
}
template <AnyFuture F>
bool wait_for(const F& future, Deadline deadline) {
  const TaskHandle& task = FutureAccess::task(future);
  task.require();
  return task.ready() || task.wait(deadline);
}
template <FutureRange Range>
bool wait_for_all(Range& futures, Deadline deadline) {
  for (const auto& future : futures) {
    if (!wait_for(future, deadline)) return false;
  }
  return true;
}

}  // namespace detail

/// The position of one that is ready; waits until there is one. The first, if there are several.
template <detail::FutureRange Range>
std::size_t wait_any(Range&& futures) {
  return *detail::wait_for_any(futures, detail::Deadline::never());
}
/// Nothing when `timeout` passed first.
template <detail::FutureRange Range, class Rep, class Period>
std::optional<std::size_t> wait_any(Range&& futures, std::chrono::duration<Rep, Period> timeout) {
  return detail::wait_for_any(futures, detail::Deadline::after(timeout));
}
template <detail::AnyFuture... Futures>
  requires(sizeof...(Futures) > 1)
std::size_t wait_any(const Futures&... futures) {
  const std::vector<Waitable> all{Waitable(futures)...};
  return detail::wait_until(all, detail::Deadline::never()).front();
}

/// Waits until all are ready.
template <detail::FutureRange Range>
void wait_all(Range&& futures) {
  detail::wait_for_all(futures, detail::Deadline::never());
}
/// False when `timeout` passed first.
template <detail::FutureRange Range, class Rep, class Period>
bool wait_all(Range&& futures, std::chrono::duration<Rep, Period> timeout) {
  return detail::wait_for_all(futures, detail::Deadline::after(timeout));
}
template <detail::AnyFuture... Futures>
  requires(sizeof...(Futures) > 1)
void wait_all(const Futures&... futures) {
  (detail::wait_for(futures, detail::Deadline::never()), ...);
}

/// What as_completed() returns: references to the futures of a range, each as soon as it is ready.
///
/// An input range for one pass, used by one thread at a time; private memory. It holds a range that
/// was moved into it, else refers to the caller's. It may be left early, whatever becomes of the
/// futures.
template <class Range>
class AsCompleted {
  using Reference = std::ranges::range_reference_t<Range>;
  using Element = std::remove_reference_t<Reference>;

 public:
  AsCompleted(Range futures, detail::Deadline deadline)
      : futures_(std::move(futures)),
        deadline_(deadline),
        queue_(std::make_shared<detail::CompletionQueue>()) {}

  class Iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using difference_type = std::ptrdiff_t;
    using value_type = std::remove_cv_t<Element>;

    Iterator() = default;
    explicit Iterator(AsCompleted* view) : view_(view) {}
    /// One that is ready.
    Reference operator*() const { return *view_->all_[view_->at_]; }
    /// Throws TimeoutError when the deadline has passed and not all are ready.
    Iterator& operator++() {
      view_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t /*end*/) const { return view_->ended_; }

   private:
    AsCompleted* view_ = nullptr;
  };

  Iterator begin() {
    for (Reference future : futures_) {
      detail::FutureAccess::task(future).require();
      all_.push_back(&future);
    }
    for (std::size_t i = 0; i < all_.size(); ++i) {
      detail::FutureAccess::task(*all_[i]).when_ready([queue = queue_, i] { queue->push(i); });
    }
    next();
    return Iterator(this);
  }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

 private:
  friend class Iterator;

  void next() {
    if (given_ == all_.size()) {
      ended_ = true;
      return;
    }
    const std::optional<std::size_t> ready = queue_->pop(deadline_);
    if (!ready) {
      throw TimeoutError(
          fmt::format("{} of {} futures are not ready in time", all_.size() - given_, all_.size()));
    }
    at_ = *ready;
    ++given_;
  }

  Range futures_;
  detail::Deadline deadline_;
  std::shared_ptr<detail::CompletionQueue> queue_;
  std::vector<Element*> all_;
  std::size_t at_ = 0;
  std::size_t given_ = 0;
  bool ended_ = false;
};

/// The futures of a range, each once, in the order in which they become ready.
template <std::ranges::viewable_range Range>
  requires detail::FutureRange<Range>
auto as_completed(Range&& futures) {
  return AsCompleted<std::views::all_t<Range>>(std::views::all(std::forward<Range>(futures)),
                                               detail::Deadline::never());
}
/// The same, all of them within `timeout` from now; going on throws TimeoutError afterwards.
template <std::ranges::viewable_range Range, class Rep, class Period>
  requires detail::FutureRange<Range>
auto as_completed(Range&& futures, std::chrono::duration<Rep, Period> timeout) {
  return AsCompleted<std::views::all_t<Range>>(std::views::all(std::forward<Range>(futures)),
                                               detail::Deadline::after(timeout));
}

}  // namespace brood
