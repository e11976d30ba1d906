#include <brood/channel/pending_result.hpp>

#include <utility>

#include <brood/channel/callback_threads.hpp>

namespace brood::detail {

void PendingResult::when_ready(std::shared_ptr<PendingResult> self, std::function<void()> run) {
  if (ready()) return run();
  post_callback([self = std::move(self), run = std::move(run)] {
    try {
      self->wait(Deadline::never());
    } catch (...) {
      // It will never be there: result() says why to whoever asks.
      static_cast<void>(self);
    }
    run();
  });
}

}  // namespace brood::detail
