#include <brood/pool/memory_limit.hpp>

#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::detail {

void MemoryLimit::explain(ErrorRecord& error) {
  limit_.reset();
  if (bytes_ == 0 || error.type != "std::bad_alloc") return;
  ErrorRecord why;
  run_catching(
      [&] {
        throw MemoryLimitExceeded(
            fmt::format("it asked for more memory than its limit of {} bytes", bytes_));
      },
      why);
  why.stack = std::move(error.stack);
  why.process = std::move(error.process);
  why.item = error.item;
  error = std::move(why);
}

}  // namespace brood::detail
