// Where continuations run: threads of this process that are there only while they are needed.
#pragma once

#include <functional>

namespace brood::detail {

/// Runs `callback`, which must not throw, soon on a thread for callbacks. Never waits for one that
/// runs: if all threads are busy there is one more. If the system has no thread left and there is
/// none, it runs here.
void post_callback(std::function<void()> callback);

/// A callback that is going to be posted: the threads stay until it has been, and so need not be
/// made anew each time. When nothing is expected and nothing left to do, all of them end.
class ExpectedCallback {
 public:
  ExpectedCallback();
  ExpectedCallback(const ExpectedCallback&) = delete;
  ExpectedCallback& operator=(const ExpectedCallback&) = delete;
  ~ExpectedCallback();
};

}  // namespace brood::detail
