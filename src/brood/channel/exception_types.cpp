// Layer: channel
#include <brood/channel/error_bytes.hpp>
#include <brood/channel/exception_types.hpp>
#include <brood/register_exception.hpp>

#include <any>
#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <new>
#include <regex>
#include <span>
#include <variant>

namespace brood::detail {

namespace {

// Entered types: a list that only grows at its head, so it is read without a lock, by any thread
// and in a child forked at any moment.
constinit std::atomic<const ExceptionType*> entered_types{nullptr};

// Categories known by name, in the same manner.
struct KnownCategory {
  const std::error_category* category;
  const KnownCategory* next;
};
constinit std::atomic<const KnownCategory*> known_categories{nullptr};

const std::error_category* find_category(std::string_view name) {
  for (const auto* category : {&std::generic_category(), &std::system_category(),
                               &std::iostream_category(), &std::future_category()}) {
    if (name == category->name()) return category;
  }
  const auto* known = known_categories.load(std::memory_order_acquire);  // with the exchange below
  for (; known != nullptr; known = known->next) {
    if (name == known->category->name()) return known->category;
  }
  return nullptr;
}

void put_code(ErrorWriter& out, const std::error_code& code) {
  out.text(code.category().name());
  out.number(std::int32_t{code.value()});
}

std::error_code get_code(ErrorReader& in) {
  const std::string name = in.text();
  const int value = in.number<std::int32_t>();
  const std::error_category* category = find_category(name);
  if (category == nullptr) throw DecodeError("unknown error category " + name);
  return {value, *category};
}

template <class E>
std::string encode_code(const void* object) {
  ErrorWriter out;
  put_code(out, static_cast<const E*>(object)->code());
  return out.take();
}

template <class E>
E build_from_code(const std::string&, std::string_view payload) {
  ErrorReader in(payload);
  const std::error_code code = get_code(in);
  if constexpr (std::is_same_v<E, std::future_error>) {
    if (code.category() != std::future_category()) throw DecodeError("not a future's error");
    return E(static_cast<std::future_errc>(code.value()));
  } else if constexpr (std::is_same_v<E, std::system_error>) {
    return E(code);
  } else {
    return E(std::string(), code);
  }
}

std::string encode_filesystem(const void* object) {
  const auto& error = *static_cast<const std::filesystem::filesystem_error*>(object);
  ErrorWriter out;
  put_code(out, error.code());
  out.text(error.path1().native());
  out.text(error.path2().native());
  return out.take();
}

std::filesystem::filesystem_error build_filesystem(const std::string&, std::string_view payload) {
  ErrorReader in(payload);
  const std::error_code code = get_code(in);
  const std::filesystem::path first = in.text();
  const std::filesystem::path second = in.text();
  return {std::string(), first, second, code};
}

std::string encode_regex(const void* object) {
  ErrorWriter out;
  out.number(static_cast<std::int32_t>(static_cast<const std::regex_error*>(object)->code()));
  return out.take();
}

std::regex_error build_regex(const std::string&, std::string_view payload) {
  const auto code = ErrorReader(payload).number<std::int32_t>();
  // libstdc++ numbers them from error_collate to error_stack. An unscoped enumeration must not
  // hold just any number.
  if (code < std::regex_constants::error_collate || code > std::regex_constants::error_stack) {
    throw DecodeError("not a regex's error");
  }
  return std::regex_error(static_cast<std::regex_constants::error_type>(code));
}

std::string encode_system_call(const void* object) {
  const auto& error = *static_cast<const SystemError*>(object);
  ErrorWriter out;
  out.text(error.call());
  out.text(error.arguments());
  out.number(std::int32_t{error.code().value()});
  return out.take();
}

SystemError build_system_call(const std::string&, std::string_view payload) {
  ErrorReader in(payload);
  const std::string call = in.text();
  const std::string arguments = in.text();
  return {call, arguments, in.number<std::int32_t>()};
}

std::string encode_crash(const void* object) {
  const Crash& crash = static_cast<const WorkerCrashed*>(object)->crash();
  ErrorWriter out;
  out.text(crash.worker);
  out.number(std::int32_t{crash.pid});
  out.number(std::int32_t{crash.signal});
  out.number(std::int32_t{crash.exit_code});
  out.number(std::uint8_t{crash.item.has_value()});
  out.number(std::uint64_t{crash.item.value_or(0)});
  out.number(std::uint32_t{crash.attempt});
  out.number(std::uint64_t{crash.address});
  out.text(crash.reason);
  out.number(std::uint8_t{crash.out_of_memory});
  out.number(std::uint8_t{crash.usage.has_value()});
  const ResourceUsage usage = crash.usage.value_or(ResourceUsage{});
  out.number(std::uint64_t{usage.peak_bytes});
  out.number(static_cast<std::int64_t>(usage.user.count()));
  out.number(static_cast<std::int64_t>(usage.system.count()));
  out.number(static_cast<std::uint32_t>(crash.stack.size()));
  for (const std::string& frame : crash.stack) out.text(frame);
  out.text(crash.stderr_tail);
  return out.take();
}

WorkerCrashed build_crash(const std::string&, std::string_view payload) {
  ErrorReader in(payload);
  Crash crash;
  crash.worker = in.text();
  crash.pid = in.number<std::int32_t>();
  crash.signal = in.number<std::int32_t>();
  crash.exit_code = in.number<std::int32_t>();
  const bool has_item = in.number<std::uint8_t>() != 0;
  const auto item = in.number<std::uint64_t>();
  if (has_item) crash.item = item;
  crash.attempt = in.number<std::uint32_t>();
  crash.address = in.number<std::uint64_t>();
  crash.reason = in.text();
  crash.out_of_memory = in.number<std::uint8_t>() != 0;
  const bool has_usage = in.number<std::uint8_t>() != 0;
  ResourceUsage usage;
  usage.peak_bytes = in.number<std::uint64_t>();
  usage.user = std::chrono::microseconds(in.number<std::int64_t>());
  usage.system = std::chrono::microseconds(in.number<std::int64_t>());
  if (has_usage) crash.usage = usage;
  for (auto frames = in.number<std::uint32_t>(); frames > 0; --frames) {
    crash.stack.push_back(in.text());
  }
  crash.stderr_tail = in.text();
  return WorkerCrashed(std::move(crash));
}

template <class E>
constexpr ExceptionType from_message() {
  return {
      .type = &typeid(E), .encode = nullptr, .raise = &raise_exception<E, &build_from_message<E>>};
}

template <class E, auto Encode, auto Build>
constexpr ExceptionType from_payload() {
  return {.type = &typeid(E), .encode = Encode, .raise = &raise_exception<E, Build>};
}

template <class E>
constexpr ExceptionType from_code() {
  return from_payload<E, &encode_code<E>, &build_from_code<E>>();
}

std::span<const ExceptionType> standard_types() {
  static const ExceptionType types[] = {
      from_message<std::exception>(),
      from_message<std::logic_error>(),
      from_message<std::domain_error>(),
      from_message<std::invalid_argument>(),
      from_message<std::length_error>(),
      from_message<std::out_of_range>(),
      from_message<std::runtime_error>(),
      from_message<std::range_error>(),
      from_message<std::overflow_error>(),
      from_message<std::underflow_error>(),
      from_message<std::bad_alloc>(),
      from_message<std::bad_array_new_length>(),
      from_message<std::bad_cast>(),
      from_message<std::bad_any_cast>(),
      from_message<std::bad_typeid>(),
      from_message<std::bad_exception>(),
      from_message<std::bad_function_call>(),
      from_message<std::bad_weak_ptr>(),
      from_message<std::bad_optional_access>(),
      from_message<std::bad_variant_access>(),
      from_code<std::system_error>(),
      from_code<std::ios_base::failure>(),
      from_code<std::future_error>(),
      from_payload<std::filesystem::filesystem_error, &encode_filesystem, &build_filesystem>(),
      from_payload<std::regex_error, &encode_regex, &build_regex>(),
#ifdef __cpp_lib_format
      from_message<std::format_error>(),
#endif
      from_message<Error>(),
      from_message<DecodeError>(),
      from_message<UnknownFunction>(),
      from_message<SharedMemoryFull>(),
      from_message<StartError>(),
      from_message<TimeoutError>(),
      from_message<TaskTimeout>(),
      from_message<MemoryLimitExceeded>(),
      from_message<StateError>(),
      from_message<ArgumentError>(),
      from_message<PoolClosed>(),
      from_message<QueueClosed>(),
      from_message<ManagerClosed>(),
      from_message<ManagerLost>(),
      from_message<TypeMismatch>(),
      from_message<ObjectGone>(),
      from_message<TaskCancelled>(),
      from_message<BrokenBarrierError>(),
      from_message<WorkerLost>(),
      from_message<MessageTooLarge>(),
      from_message<EndOfStream>(),
      from_message<AuthenticationError>(),
      from_message<EngineError>(),
      from_message<NoAgents>(),
      from_message<TaskLost>(),
      from_payload<SystemError, &encode_system_call, &build_system_call>(),
      from_payload<WorkerCrashed, &encode_crash, &build_crash>(),
  };
  return types;
}

template <class Predicate>
const ExceptionType* find_type(Predicate&& matches) {
  // Pairs with the exchange in enter_exception_type.
  const auto* entry = entered_types.load(std::memory_order_acquire);
  for (; entry != nullptr; entry = entry->next) {
    if (matches(*entry)) return entry;
  }
  for (const ExceptionType& type : standard_types()) {
    if (matches(type)) return &type;
  }
  return nullptr;
}

// "E" of "std::_Nested_exception<E>", the type that std::throw_with_nested throws for an E.
std::string nested_type_name(const std::type_info& thrown) {
  static constexpr std::string_view kMangled = "St17_Nested_exceptionI";
  static constexpr std::string_view kReadable = "std::_Nested_exception<";
  if (!std::string_view(thrown.name()).starts_with(kMangled)) return {};
  std::string name = demangle(thrown.name());
  if (!name.starts_with(kReadable) || !name.ends_with('>')) return {};
  name = name.substr(kReadable.size(), name.size() - kReadable.size() - 1);
  if (name.ends_with(' ')) name.pop_back();  // "A<B<int> >"
  return name;
}

}  // namespace

void enter_exception_type(ExceptionType& entry) noexcept {
  const ExceptionType* head = entered_types.load(std::memory_order_relaxed);
  do {
    entry.next = head;
    // Pairs with the load in find_type: who sees the entry sees what it holds.
  } while (!entered_types.compare_exchange_weak(head, &entry, std::memory_order_release,
                                                std::memory_order_relaxed));
}

const ExceptionType* find_exception_type(const CaughtException& exception) {
  if (exception.type() == nullptr) return nullptr;
  if (const auto* rethrown = exception.as<RethrownTrace>()) return &rethrown->entry();
  const std::string nested = nested_type_name(*exception.type());
  if (nested.empty()) {
    return find_type([&](const ExceptionType& entry) { return *entry.type == *exception.type(); });
  }
  return find_type([&](const ExceptionType& entry) {
    return exception.as(*entry.type) != nullptr && demangle(entry.type->name()) == nested;
  });
}

std::string readable_type(const std::type_info& thrown) {
  std::string name = nested_type_name(thrown);
  if (name.empty()) name = demangle(thrown.name());
  for (const auto& [clutter, plain] :
       {std::pair<std::string_view, std::string_view>{"::__cxx11::", "::"}, {"[abi:cxx11]", ""}}) {
    for (auto at = name.find(clutter); at != name.npos; at = name.find(clutter, at)) {
      name.replace(at, clutter.size(), plain);
    }
  }
  return name;
}

const ExceptionType* find_exception_type(std::string_view mangled_name) noexcept {
  return find_type([&](const ExceptionType& entry) { return mangled_name == entry.type->name(); });
}

}  // namespace brood::detail

namespace brood {

void register_error_category(const std::error_category& category) {
  if (detail::find_category(category.name()) != nullptr) return;
  // Never freed: an error may be decoded until the program ends.
  auto* known = new detail::KnownCategory{&category, nullptr};
  known->next = detail::known_categories.load(std::memory_order_relaxed);
  // Pairs with the load in find_category.
  while (!detail::known_categories.compare_exchange_weak(
      known->next, known, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

}  // namespace brood
