// Layer: platform
// The Itanium C++ ABI looks for a handler in two phases. In the first, the personality routine of
// each frame on the stack is asked, and nothing is unwound: the stack at the throw stands intact
// below. libstdc++ asks a catch clause by the virtual function __do_catch of the type_info that
// stands in the clause. So a type_info of our own in a clause is called in that moment.
#include <brood/platform/throw_probe.hpp>

#include <array>
#include <cstring>
#include <utility>

#ifndef __GLIBCXX__
#error "throw_probe.cpp relies on std::type_info::__do_catch of libstdc++"
#endif

namespace brood::detail {

namespace {

struct Noted {
  const void* object = nullptr;
  StackTrace stack;
};

// SUBTLE: between the search and the handler, destructors run, and these may throw and catch
// exceptions of their own, whose stacks are noted as well. So a stack is kept with the address of
// its exception, which cannot be that of another one as long as its handler has not ended, and
// there is room for the few that can be under way at once. Should that not do, the stack is
// missing, never wrong.
struct NotedThrows {
  std::array<Noted, 4> last;
  std::size_t next = 0;
  std::uint64_t count = 0;
};

// Constant initialisation and a trivial destructor: no guard is needed, and an exception thrown
// while the thread ends finds it still alive.
constinit thread_local NotedThrows noted_throws{};

}  // namespace

// Not in the unnamed namespace: that would make the object below invisible to other files.
class ProbeTypeInfo final : public std::type_info {
 public:
  ProbeTypeInfo() : std::type_info("N5brood6detail10ThrowProbeE") {}

  bool __do_catch(const std::type_info*, void** object, unsigned) const override {
    NotedThrows& noted = noted_throws;
    Noted& slot = noted.last[noted.next];
    noted.next = (noted.next + 1) % noted.last.size();
    ++noted.count;
    slot.object = *object;
    slot.stack = StackTrace::here(1);
    return false;
  }
};

// This object is what the compiler refers to as typeid(ThrowProbe) in the catch clauses. The
// priority makes it exist before any other object of the program is constructed and may throw.
// NOTE: this file must contain no mention of ThrowProbe's own typeid or of a clause that catches
// it.
// NOLINTNEXTLINE(readability-identifier-naming): the name is the compiler's
extern const ProbeTypeInfo throw_probe_type_info asm("_ZTIN5brood6detail10ThrowProbeE")
    __attribute__((visibility("default")));
__attribute__((init_priority(101))) const ProbeTypeInfo throw_probe_type_info;

CaughtException::CaughtException(std::exception_ptr exception) noexcept
    : exception_(std::move(exception)) {
  if (!exception_) return;
  type_ = exception_.__cxa_exception_type();
  // libstdc++'s exception_ptr is the address of the thrown object and nothing else.
  static_assert(sizeof(exception_) == sizeof(object_));
  std::memcpy(&object_, static_cast<const void*>(&exception_), sizeof(object_));
  // As the runtime does: a thrown pointer is matched by its value.
  if (type_->__is_pointer_p()) std::memcpy(&object_, object_, sizeof(object_));
}

const void* CaughtException::as(const std::type_info& type) const noexcept {
  void* object = object_;
  if (type_ == nullptr || !type.__do_catch(type_, &object, 1)) return nullptr;
  return object;
}

StackTrace CaughtException::take_stack() const noexcept {
  NotedThrows& noted = noted_throws;
  if (type_ == nullptr) return {};
  for (std::size_t back = 1; back <= noted.last.size(); ++back) {  // the newest first
    Noted& one = noted.last[(noted.next + noted.last.size() - back) % noted.last.size()];
    if (one.object == object_) {
      one.object = nullptr;  // a later exception may well get the same address
      return one.stack;
    }
  }
  return {};
}

std::uint64_t probed_throws_for_testing() noexcept { return noted_throws.count; }

}  // namespace brood::detail
