#include <brood/listener.hpp>

#include <brood/channel/listener_core.hpp>
#include <brood/errors.hpp>
#include <brood/platform/named_memory.hpp>

namespace brood {

Listener::Listener(ListenOptions options)
    : Listener(Address::abstract("brood-" + detail::random_digits()), std::move(options)) {}

Listener::Listener(const Address& address, ListenOptions options)
    : core_(std::make_unique<detail::ListenerCore>(address, std::move(options))) {}

Listener::Listener(Listener&& other) noexcept = default;
Listener& Listener::operator=(Listener&& other) noexcept = default;
Listener::~Listener() = default;

detail::ListenerCore& Listener::core() const {
  if (core_ == nullptr) throw StateError("this listener is closed, or was moved elsewhere");
  return *core_;
}

std::optional<Connection> Listener::accept_until(detail::Deadline deadline) {
  std::unique_ptr<detail::Transport> transport = core().accept(deadline);
  if (!transport) return std::nullopt;
  return Connection(std::move(transport), true, true);
}

Connection Listener::accept() {
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): nothing comes only after a deadline
  return accept_until(detail::Deadline::never()).value();
}

const Peer& Listener::last_accepted() const { return core().last_accepted(); }
const Address& Listener::address() const { return core().address(); }
std::uint64_t Listener::refused() const { return core().refused(); }
std::size_t Listener::pending() const { return core().pending(); }
void Listener::close() noexcept { core_.reset(); }
int Listener::descriptor() const { return core().descriptor(); }

}  // namespace brood
