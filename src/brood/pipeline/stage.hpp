#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <brood/channel/callable.hpp>
#include <brood/channel/carries_descriptors.hpp>
#include <brood/channel/thunk.hpp>
#include <brood/memory/handle.hpp>
#include <brood/outcome.hpp>
#include <brood/pipeline/item_value.hpp>
#include <brood/pool/call_limits.hpp>
#include <brood/retry.hpp>

namespace brood {
class Pool;
}

namespace brood::detail {

/// What a stage does with an item, without its types. The crossing half is for stages on processes
/// only; there is one object in the caller, and one in each worker.
class StageFunction {
 public:
  StageFunction() = default;
  StageFunction(const StageFunction&) = delete;
  StageFunction& operator=(const StageFunction&) = delete;
  virtual ~StageFunction() = default;

  /// The input may be moved from.
  virtual ItemValue call(ItemValue& input) = 0;
  /// Leaves it as it was, to be called again.
  virtual ItemValue call_keeping(ItemValue& input);
  /// Of a stage that takes outcomes: the item failed before it.
  virtual ItemValue call_failed(const std::exception_ptr& failure);

  virtual void encode_input(ByteSink& sink, const ItemValue& input) const;
  virtual ItemValue decode_input(ByteSource& source) const;
  virtual void encode_output(ByteSink& sink, const ItemValue& output) const;
  virtual ItemValue decode_output(ByteSource& source) const;
};

/// Calls f with a T, which is moved to it if it takes that, for what it returns.
template <class F, class T>
decltype(auto) call_stage(F& f, T& item) {
  if constexpr (!std::is_const_v<T> && std::is_invocable_v<F&, T&&>) {
    return std::invoke(f, std::move(item));
  } else {
    static_assert(std::is_invocable_v<F&, T&>,
                  "a stage's function takes one argument: what comes out of the stage before");
    return std::invoke(f, item);
  }
}
template <class F, class T>
using stage_result_t =
    std::remove_cvref_t<decltype(call_stage(std::declval<F&>(), std::declval<T&>()))>;

template <class R, class F, class T>
ItemValue stage_output(F& f, T& item) {
  if constexpr (std::is_void_v<R>) {
    call_stage(f, item);
    return ItemValue::of(std::monostate{});
  } else {
    return ItemValue::of<R>(call_stage(f, item));
  }
}

/// One in this process; F may be anything. Shared: several threads call it at once.
template <class F, class T, bool Shared>
class LocalStage final : public StageFunction {
  using Function = std::conditional_t<Shared, const F, F>;

 public:
  using R = stage_result_t<Function, T>;
  explicit LocalStage(F f) : f_(std::move(f)) {}
  static constexpr bool kKeeps =
      std::is_invocable_v<Function&, const T&> || std::is_copy_constructible_v<T>;
  ItemValue call(ItemValue& input) override { return stage_output<R>(f_, input.as<T>()); }
  ItemValue call_keeping(ItemValue& input) override {
    if constexpr (std::is_invocable_v<Function&, const T&>) {
      return stage_output<R>(f_, std::as_const(input.as<T>()));
    } else if constexpr (std::is_copy_constructible_v<T>) {
      T copy(input.as<T>());
      return stage_output<R>(f_, copy);
    } else {
      return StageFunction::call_keeping(input);
    }
  }

 private:
  Function f_;
};

/// The same with an Outcome<T>, also of items that failed.
template <class F, class T>
class OutcomeStage final : public StageFunction {
 public:
  using R = stage_result_t<F, Outcome<T>>;
  explicit OutcomeStage(F f) : f_(std::move(f)) {}
  ItemValue call(ItemValue& input) override { return give(Outcome<T>(std::move(input.as<T>()))); }
  ItemValue call_failed(const std::exception_ptr& failure) override {
    return give(Outcome<T>(failure));
  }

 private:
  ItemValue give(Outcome<T> outcome) { return stage_output<R>(f_, outcome); }
  F f_;
};

/// One whose items cross to another process and back.
template <class F, class T, class R>
class CrossingStage final : public StageFunction {
  using Output = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

 public:
  explicit CrossingStage(F f) : f_(std::move(f)) {}
  ItemValue call(ItemValue& input) override { return stage_output<R>(f_, input.as<T>()); }
  void encode_input(ByteSink& sink, const ItemValue& input) const override {
    encode(sink, static_cast<const T&>(input.as<T>()));
  }
  ItemValue decode_input(ByteSource& source) const override {
    return ItemValue::of<T>(decode<T>(source));
  }
  void encode_output(ByteSink& sink, const ItemValue& output) const override {
    if constexpr (!std::is_void_v<R>) encode(sink, static_cast<const R&>(output.as<R>()));
  }
  ItemValue decode_output(ByteSource& source) const override {
    if constexpr (std::is_void_v<R>) {
      return ItemValue::of(Output{});
    } else {
      return ItemValue::of<R>(decode<R>(source));
    }
  }

 private:
  F f_;
};

/// The thunk that makes a stage in a worker.
using StageMaker = std::unique_ptr<StageFunction> (*)(ByteSource& callable);
template <class F, class T, class R>
std::unique_ptr<StageFunction> make_stage(ByteSource& callable) {
  return std::make_unique<CrossingStage<F, T, R>>(decode_callable<F>(callable));
}

/// A stage as it was asked for; shared by the runs of a pipeline, and never changed.
struct StageSpec {
  enum Kind { processes, threads, serial, in_order };
  Kind kind = serial;
  bool takes_outcomes = false;
  std::string name;
  std::shared_ptr<StageFunction> function;
  // On processes:
  std::optional<int> workers;
  const Pool* pool = nullptr;
  std::shared_ptr<const CallLimits> limits;
  FunctionId maker;
  std::vector<std::byte> callable;
  std::vector<Handle> kept;  // what it names
  // On threads:
  int thread_count = 0;
  unsigned retries = 0;
  RetryIf retry_if;
};

/// Where items come from. next() gives nothing at the end.
struct SourceSpec {
  using Next = std::function<ItemValue()>;
  std::function<Next()> begin;                       // for a run
  std::function<std::optional<std::size_t>()> size;  // if it is known
};

}  // namespace brood::detail
