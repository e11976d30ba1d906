// Layer: channel
// Named values of any types that processes share.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <brood/channel/codec.hpp>
#include <brood/channel/handle_codec.hpp>
#include <brood/channel/record_codec.hpp>
#include <brood/sync/hashed_records.hpp>

namespace brood {

namespace detail {

[[noreturn]] void throw_no_attribute(const std::string& name);
[[noreturn]] void throw_other_type(const std::string& name);

}  // namespace detail

/// Names with values of any types that cross to other processes, in the family's shared memory. As
/// in Python's Namespace a name may have a value of one type, then of another. What Dict says of
/// who may use it, of bytes, deaths, forks and memory ordering holds here.
///
///     void work(brood::Namespace settings) {
///       const int depth = settings.get<int>("depth");
///       settings.set("result", std::vector<double>(depth));
///     }
///     brood::Namespace settings;
///     settings.set("depth", 3);
///     brood::Process p(work, settings);
///     p.start(); p.join();
///     auto result = settings.get<std::vector<double>>("result");
///
/// A value is read as the type by which it was set, and no other: an int is no long. Text that is
/// set as "..." is a std::string. Errors: std::out_of_range for a name without a value; StateError
/// for a value of another type, and
///   for a handle that was moved from; SharedMemoryFull, and nothing has changed; DecodeError when
///   the bytes are damaged.
class Namespace {
 public:
  Namespace();

  /// Sets what the name has, whatever it had.
  template <class T>
  void set(const std::string& name, const T& value) const {
    using Stored =
        std::conditional_t<std::convertible_to<const T&, std::string> && !std::is_class_v<T>,
                           std::string, T>;
    detail::require_sendable<Stored>();
    if constexpr (detail::Sendable<Stored>) {
      detail::CellSink sink(handle_.member().heap());
      write_type(sink, detail::number_of_type<Stored>());
      detail::encode<Stored>(sink, value);
      put(name, sink);
    }
  }
  /// Throws std::out_of_range, StateError.
  template <class T>
  [[nodiscard]] T get(const std::string& name) const {
    std::optional<T> found = find<T>(name);
    if (!found) detail::throw_no_attribute(name);
    return std::move(*found);
  }
  template <class T>
  [[nodiscard]] T get(const std::string& name, T otherwise) const {
    std::optional<T> found = find<T>(name);
    return found ? std::move(*found) : std::move(otherwise);
  }
  /// Nothing when the name has no value. Throws StateError when it is of another type.
  template <class T>
  [[nodiscard]] std::optional<T> find(const std::string& name) const {
    const Key wanted(name);
    const Held held(handle_, kLayout);
    auto* const it = held.find(wanted.view());
    if (it == nullptr) return std::nullopt;
    return read<T>(held, it, name);
  }
  /// Changes a value as one step: `f(T&)`, which returns nothing. Throws std::out_of_range,
  /// StateError.
  template <class T, std::invocable<T&> F>
  void update(const std::string& name, F&& f) const {
    const Key wanted(name);
    Held held(handle_, kLayout);
    auto* const it = held.find(wanted.view());
    if (it == nullptr) detail::throw_no_attribute(name);
    T value = read<T>(held, it, name);
    std::invoke(std::forward<F>(f), value);
    detail::CellSink sink(held.heap());
    write_type(sink, detail::number_of_type<T>());
    detail::encode(sink, value);
    detail::Part part;
    sink.seal(part);
    held.set(it, part);
    sink.given();
  }

  [[nodiscard]] bool contains(const std::string& name) const;
  /// Whether the name has a value of that type.
  template <class T>
  [[nodiscard]] bool holds(const std::string& name) const {
    return type_of(name) == detail::number_of_type<T>();
  }
  /// True when it had a value.
  bool erase(const std::string& name) const;  // NOLINT(modernize-use-nodiscard)
  void clear() const;
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] bool empty() const { return size() == 0; }
  /// In the order in which they came.
  [[nodiscard]] std::vector<std::string> names() const;

  /// Whether both are the same namespace.
  friend bool operator==(const Namespace&, const Namespace&) = default;

 private:
  friend detail::HandleAccess;
  using Held = detail::HeldTable;
  using Key = detail::Key<std::string>;
  static constexpr detail::ObjectType kObjectType{
      .kind = static_cast<std::uint32_t>(detail::ObjectKind::name_space), .contents = 1};
  static constexpr std::size_t kLeastBytes = sizeof(detail::RecordsHeader);
  static constexpr detail::RecordLayout kLayout{.key_words = Key::kWords,
                                                .value_words = detail::Cell::kWords,
                                                .key_in_cell = true,
                                                .value_in_cell = true,
                                                .hashed = true};
  explicit Namespace(detail::Handle handle);

  static void write_type(detail::ByteSink& sink, std::uint32_t type) {
    sink.write(&type, sizeof(type));
  }
  static std::uint32_t read_type(detail::ByteSource& source) {
    std::uint32_t type = 0;
    source.read(&type, sizeof(type));
    return type;
  }
  template <class T>
  static T read(const Held& held, detail::SharedWord* it, const std::string& name) {
    detail::Cell::Words place;
    detail::ByteSource source(held.bytes_of(held.value_of(it), place));
    if (read_type(source) != detail::number_of_type<T>()) detail::throw_other_type(name);
    return detail::decode<T>(source);
  }
  void put(const std::string& name, detail::CellSink& value) const;
  /// 0: it has no value.
  [[nodiscard]] std::uint32_t type_of(const std::string& name) const;

  detail::Handle handle_;
};

}  // namespace brood

template <>
inline constexpr bool brood::detail::kIsSharedObject<brood::Namespace> = true;
template <>
struct std::hash<brood::Namespace> : brood::detail::HandleHash<brood::Namespace> {};
