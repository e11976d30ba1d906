// Layer: channel
#pragma once

#include <memory>

#include <brood/wait.hpp>

namespace brood {

/// A descriptor for the event loop of your own (poll, epoll, asio), of something that has none: it
/// is readable when the queue has a message or has ended, or the future has its result.
///
///     brood::ReadyDescriptor ready(queue);
///     loop.on_readable(ready.descriptor(), [&] {
///       while (auto message = queue.try_get()) handle(*message);
///       ready.rearm();
///     });
///
/// It becomes readable once, and stays so until rearm(), whether the message is still there or not:
/// so take what there is, without waiting, then rearm; if there is more by then it is readable at
/// once, and nothing is missed. It may be readable in vain. Of something that has a descriptor it
/// is that descriptor, rearm() does nothing, and the object must live longer.
///
/// Who may use it: one thread at a time; the descriptor by any. It lives in this process, takes
/// nothing, and costs an idle process nothing: one thread that sleeps in the kernel from the
/// constructor to the destructor, which ends it. Because of that thread StartMethod::fork is
/// refused meanwhile, to pools with that method too, when they replace a worker. In a copy of the
/// process made by fork(2) it never becomes readable. When a holder of a message dies, what comes
/// back makes it readable. Errors: SystemError, and those of wait(); what the thread finds wrong
/// makes it readable, so that whoever looks gets the error.
class ReadyDescriptor {
 public:
  explicit ReadyDescriptor(const Waitable& object);
  ReadyDescriptor(ReadyDescriptor&&) noexcept;
  ReadyDescriptor& operator=(ReadyDescriptor&&) noexcept;
  ReadyDescriptor(const ReadyDescriptor&) = delete;
  ReadyDescriptor& operator=(const ReadyDescriptor&) = delete;
  ~ReadyDescriptor();

  /// Belongs to this object. Throws StateError when it was moved from.
  [[nodiscard]] int descriptor() const;
  /// Not readable any more; again as soon as there is a reason.
  void rearm();

 private:
  class Sleeper;
  std::unique_ptr<Sleeper> sleeper_;
  int descriptor_ = -1;
};

}  // namespace brood
