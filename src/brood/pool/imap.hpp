#pragma once

#include <cstddef>
#include <deque>
#include <exception>
#include <iterator>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>

namespace brood::detail {

/// Items in flight for each worker, if the caller does not say: enough that nobody waits while a
/// result travels.
inline constexpr std::size_t kImapWindow = 16;

/// The results of f(x) for the x of a range, in order, computed a window ahead of who fetches them.
///
/// An input range for one pass, to be used by one thread; it holds the range (or refers to it, as
/// std::views::all) and the pool's caller. Destroying it early wants no more results: what is in
/// flight is computed and dropped.
template <class F, std::ranges::input_range Range, class Caller>
class ImapView {
  using FutureType = decltype(std::declval<Caller&>().submit(
      std::declval<const F&>(), *std::declval<std::ranges::iterator_t<Range>&>()));
  using R = decltype(std::declval<FutureType&>().get());

 public:
  ImapView(Caller caller, F function, Range range, std::size_t window)
      : caller_(std::move(caller)),
        function_(std::move(function)),
        range_(std::move(range)),
        window_(window) {}

  class Iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using difference_type = std::ptrdiff_t;
    using value_type = R;

    Iterator() = default;
    explicit Iterator(ImapView* view) : view_(view) {}

    /// The result; throws what its item failed with. Once for each position.
    R operator*() const { return view_->take(); }
    Iterator& operator++() {
      view_->advance();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t /*end*/) const { return view_->at_end(); }

   private:
    ImapView* view_ = nullptr;
  };

  Iterator begin() {
    fill();
    return Iterator(this);
  }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

 private:
  friend class Iterator;

  // An item is asked for when there is room for it, not before: input may be slow to come.
  void fill() {
    try {
      while (!input_ended_ && in_flight_.size() < window_) {
        if (at_) {
          ++*at_;
        } else {
          at_.emplace(std::ranges::begin(range_));
        }
        input_ended_ = *at_ == std::ranges::end(range_);
        if (!input_ended_) in_flight_.push_back(caller_.submit(function_, **at_));
      }
    } catch (...) {
      // Behind the results of what came before it.
      input_ended_ = true;
      input_error_ = std::current_exception();
    }
  }
  [[nodiscard]] bool at_end() const { return in_flight_.empty() && !input_error_; }
  R take() {
    if (in_flight_.empty()) std::rethrow_exception(input_error_);
    return in_flight_.front().get();
  }
  void advance() {
    if (in_flight_.empty()) {
      input_error_ = nullptr;
    } else {
      in_flight_.pop_front();
      fill();
    }
  }

  Caller caller_;
  F function_;
  Range range_;
  std::size_t window_;
  std::optional<std::ranges::iterator_t<Range>> at_;
  bool input_ended_ = false;
  std::exception_ptr input_error_;  // what the input threw, or the pool when it was given an item
  std::deque<FutureType> in_flight_;
};

}  // namespace brood::detail
