#pragma once

#include <cstddef>
#include <deque>
#include <exception>
#include <iterator>
#include <optional>
#include <ranges>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/future.hpp>
#include <brood/wait.hpp>

namespace brood::detail {

/// Items in flight for each worker, if the caller does not say: enough that nobody waits while a
/// result travels.
inline constexpr std::size_t kImapWindow = 16;

/// How far ahead imap() computes.
struct ImapWindow {
  std::size_t items = 1;
  std::size_t bytes = 0;    // 0: any number
  std::size_t workers = 1;  // so many may run before it is known how large results are
};

/// What is in flight, and whether there is room for more. Used by one thread.
class ImapRoom {
 public:
  explicit ImapRoom(ImapWindow window) : window_(window) {}

  /// Room for one more, if `flights` are in flight.
  [[nodiscard]] bool left(std::size_t flights) const {
    if (flights == 0) return true;
    if (flights >= window_.items) return false;
    if (window_.bytes == 0) return true;
    // SUBTLE: nobody knows how large a result is going to be: it is taken to be as large as the
    // largest so far, and until there is one, only each worker gets an item.
    if (!known_ && flights >= window_.workers) return false;
    return held_ + (unknown_ + 1) * largest_ + largest_input_ <= window_.bytes;
  }
  [[nodiscard]] bool counts_bytes() const { return window_.bytes != 0; }

  void add(std::size_t input) {
    held_ += input;
    largest_input_ = input > largest_input_ ? input : largest_input_;
    ++unknown_;
  }
  void result(std::size_t bytes) {
    held_ += bytes;
    largest_ = bytes > largest_ ? bytes : largest_;
    known_ = true;
    --unknown_;
  }
  void fetched(std::size_t input, std::size_t result) { held_ -= input + result; }

 private:
  ImapWindow window_;
  std::size_t held_ = 0;     // bytes of inputs, and of results that are there
  std::size_t unknown_ = 0;  // items whose results are not there
  std::size_t largest_ = 0;
  std::size_t largest_input_ = 0;
  bool known_ = false;
};

/// The results of f(x, ...) for the x of ranges, in order or as they come, computed a window ahead
/// of who fetches them. `Stream` gives items to the pool: see ProcessStream and ThreadStream.
///
/// An input range for one pass, to be used by one thread; it holds the ranges (or refers to them,
/// as std::views::all) and what it needs of the pool. Destroying it early wants no more results:
/// what has not begun never will, what runs is stopped where that can be done.
template <bool InOrder, class Stream, std::ranges::input_range... Ranges>
class ImapView {
  using R = typename Stream::Result;

 public:
  ImapView(Stream stream, ImapWindow window, Ranges... ranges)
      : stream_(std::move(stream)), room_(window), ranges_(std::move(ranges)...) {}
  ImapView(ImapView&&) noexcept = default;
  ImapView& operator=(ImapView&&) = delete;
  ~ImapView() {
    for (const Flight& flight : flights_) {
      if (flight.future.valid()) flight.future.cancel();
    }
  }

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
  struct Flight {
    Future<R> future;
    std::size_t input = 0;  // bytes
    std::size_t result = 0;
    bool known = false;  // result is
  };
  using Places = std::tuple<std::ranges::iterator_t<Ranges>...>;

  // An item is asked for when there is room for it, not before: input may be slow to come.
  void fill() {
    try {
      while (!input_ended_ && room_left()) {
        if (at_) {
          std::apply([](auto&... at) { (++at, ...); }, *at_);
        } else {
          at_.emplace(std::apply(
              [](auto&... ranges) { return Places(std::ranges::begin(ranges)...); }, ranges_));
        }
        input_ended_ = at_input_end(std::index_sequence_for<Ranges...>{});
        if (!input_ended_) start();
      }
    } catch (...) {
      // Behind the results of what came before it.
      input_ended_ = true;
      input_error_ = std::current_exception();
    }
  }
  template <std::size_t... I>
  bool at_input_end(std::index_sequence<I...>) {
    return ((std::get<I>(*at_) == std::ranges::end(std::get<I>(ranges_))) || ...);
  }
  void start() {
    Flight flight;
    flight.future =
        std::apply([&](auto&... at) { return stream_.submit(flight.input, *at...); }, *at_);
    room_.add(flight.input);
    flights_.push_back(std::move(flight));
  }
  bool room_left() {
    if (room_.counts_bytes()) {
      for (Flight& flight : flights_) note_result(flight, false);
    }
    return room_.left(flights_.size());
  }
  void note_result(Flight& flight, bool over) {
    if (flight.known || !(over || flight.future.ready())) return;
    flight.known = true;
    flight.result = over ? 0 : FutureAccess::task(flight.future).result_bytes();
    room_.result(flight.result);
  }

  [[nodiscard]] bool at_end() const { return flights_.empty() && !input_error_; }
  /// The flight that the iterator is at.
  Flight& here() {
    if constexpr (!InOrder) {
      if (chosen_) return flights_[*chosen_];
      std::size_t first = 0;
      while (first < flights_.size() && !flights_[first].future.ready()) ++first;
      if (first == flights_.size()) {
        std::vector<Waitable> all;
        all.reserve(flights_.size());
        for (const Flight& flight : flights_) all.emplace_back(flight.future);
        first = wait_until(all, Deadline::never()).front();
      }
      chosen_ = first;
      return flights_[first];
    } else {
      return flights_.front();
    }
  }
  R take() {
    if (flights_.empty()) std::rethrow_exception(input_error_);
    Flight& flight = here();
    if (room_.counts_bytes() && flight.future.valid()) {
      flight.future.wait();
      note_result(flight, false);
    }
    return flight.future.get();
  }
  void advance() {
    if (flights_.empty()) {
      input_error_ = nullptr;
      return;
    }
    Flight& flight = here();
    note_result(flight, true);
    room_.fetched(flight.input, flight.result);
    if constexpr (InOrder) {
      flights_.pop_front();
    } else {
      // The order stays, so that no result is passed over for ever.
      flights_.erase(flights_.begin() + static_cast<std::ptrdiff_t>(*chosen_));
      chosen_.reset();
    }
    fill();
  }

  Stream stream_;
  ImapRoom room_;
  std::tuple<Ranges...> ranges_;
  std::optional<Places> at_;
  bool input_ended_ = false;
  std::exception_ptr input_error_;  // what the input threw, or the pool when it was given an item
  std::deque<Flight> flights_;
  std::optional<std::size_t> chosen_;
};

}  // namespace brood::detail
