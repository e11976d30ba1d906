#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace brood::detail {

/// Which item a thread computes, for log records.
struct TaskNote {
  std::optional<std::size_t> item = {};  // none: a task that is no item of a range
  std::uint32_t attempt = 1;             // 1 the first time
};

/// What the calling thread is at. Whoever runs tasks says how to find out, once for a run of items,
/// so that an item costs nothing; it is asked only when a record is written.
class CurrentTask {
 public:
  /// False when there is none just now.
  using Describe = bool (*)(const void* context, TaskNote& note);

  /// As long as this object lives, `describe(context)` tells. Runs may nest.
  class Scope {
   public:
    Scope(Describe describe, const void* context) noexcept : before_(current_) {
      current_ = {.describe = describe, .context = context};
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { current_ = before_; }

   private:
    friend class CurrentTask;
    struct Source {
      Describe describe;
      const void* context;
    };
    static inline constinit thread_local Source current_{nullptr, nullptr};
    Source before_;
  };

  static std::optional<TaskNote> get() {
    TaskNote note;
    const Scope::Source source = Scope::current_;
    if (source.describe == nullptr || !source.describe(source.context, note)) return std::nullopt;
    return note;
  }
};

}  // namespace brood::detail
