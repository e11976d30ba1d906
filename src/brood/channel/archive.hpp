// Layer: channel
// The two archives: what cereal functions are called with, and what writes and reads everything.
// Length: the two mirror each other, step by step, and are read side by side.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include <cereal/cereal.hpp>

#include <brood/channel/archive_memory.hpp>
#include <brood/channel/bytes.hpp>
#include <brood/channel/cereal_functions.hpp>
#include <brood/channel/crossing.hpp>
#include <brood/channel/sendable.hpp>

namespace brood::detail {

/// Whether cereal's marker `Marker` is what T is, such as cereal::NameValuePair.
template <class T, template <class> class Marker>
inline constexpr bool kIsMarker = false;
template <class T, template <class> class Marker>
inline constexpr bool kIsMarker<Marker<T>, Marker> = true;

/// Writes values to a ByteSink. One for each encode(), used by one thread.
///
/// It is an output archive to functions written for cereal: they may pass it whatever crosses at
/// all, and what they pass is written as it would be by itself. (It derives from cereal::access
/// only so that functions in namespace cereal are found.)
class Encoder final : public cereal::detail::OutputArchiveBase, private cereal::access {
 public:
  using is_loading = std::false_type;
  using is_saving = std::true_type;

  explicit Encoder(ByteSink& sink) : sink_(&sink) {}

  [[nodiscard]] ByteSink& sink() { return *sink_; }
  [[nodiscard]] EncoderMemory& memory() {
    if (memory_ == nullptr) memory_ = std::make_unique<EncoderMemory>();
    return *memory_;
  }

  /// Writes a value of a Sendable type. Throws what the sink throws, and Error if the value is
  /// nested too deeply or has no value (a variant after an exception).
  template <class T>
  void put(const T& value) {
    if constexpr (kCrossing<T> == Crossing::image) {
      sink_->write(std::addressof(value), sizeof(T));
    } else if constexpr (kCrossing<T> == Crossing::codec) {
      Codec<T>::write(*this, value);
    } else if constexpr (kCrossing<T> == Crossing::cereal) {
      const Nesting nesting(depth_);
      save_by_cereal(*this, value);
    } else if constexpr (kCrossing<T> == Crossing::fields) {
      const Nesting nesting(depth_);
      for_each_field(value, [this](const auto& field) { this->put_member(field); });
    }
  }

  /// Writes a field, element by element if it is an array.
  template <class T>
  void put_member(const T& value) {
    if constexpr (std::is_array_v<T>) {
      for (const auto& element : value) put_member(element);
    } else {
      put<T>(value);
    }
  }

  /// Writes how many elements follow: one byte if they are fewer than 255.
  void put_size(std::size_t size) {
    if (size < kLongSize) {
      const auto byte = static_cast<unsigned char>(size);
      sink_->write(&byte, 1);
    } else {
      constexpr unsigned char byte = kLongSize;
      sink_->write(&byte, 1);
      sink_->write(&size, sizeof(size));
    }
  }

  /// Writes an element of a container. One that may take no bytes gets one, so that the size of the
  /// container can always be checked against the bytes that are there.
  template <class T>
  void put_element(const T& value) {
    if constexpr (least_bytes<T>() == 0) sink_->write("", 1);
    put<T>(value);
  }

  // What cereal calls, by its names.
  // NOLINTBEGIN(readability-identifier-naming)
  template <class... Ts>
  Encoder& operator()(Ts&&... values) {
    (archive(values), ...);
    return *this;
  }
  template <class T>
  Encoder& operator&(T&& value) {
    return (*this)(value);
  }
  template <class T>
  Encoder& operator<<(T&& value) {
    return (*this)(value);
  }
  void serializeDeferments() { memory().run_deferred(); }
  std::uint32_t registerSharedPointer(const std::shared_ptr<const void>& pointer) {
    return memory().polymorphic_pointer(pointer);
  }
  std::uint32_t registerPolymorphicType(const char* name) {
    return memory().polymorphic_name(name);
  }
  template <class T>
  std::uint32_t save_version() {
    const std::uint32_t version = cereal::detail::Version<T>::version;
    if (memory().first_of_class(typeid(T))) put(version);
    return version;
  }

  static constexpr unsigned char kLongSize = 255;
  // NOLINTEND(readability-identifier-naming)

 private:
  template <class Marked>
  void archive(const Marked& value) {
    using T = std::remove_cv_t<Marked>;
    if constexpr (kIsMarker<T, cereal::NameValuePair>) {
      archive(value.value);
    } else if constexpr (kIsMarker<T, cereal::SizeTag>) {
      put_size(static_cast<std::size_t>(value.size));
    } else if constexpr (kIsMarker<T, cereal::BinaryData>) {
      sink_->write(value.data, static_cast<std::size_t>(value.size));
    } else if constexpr (kIsMarker<T, cereal::base_class>) {
      archive(*value.base_ptr);
    } else if constexpr (kIsMarker<T, cereal::virtual_base_class>) {
      if (memory().first_of_object(value.base_ptr, typeid(*value.base_ptr))) {
        archive(*value.base_ptr);
      }
    } else if constexpr (kIsMarker<T, cereal::DeferredData>) {
      memory().defer([this, value] { archive(value.value); });
    } else if constexpr (std::is_array_v<T>) {
      for (const auto& element : value) archive(element);
    } else if constexpr (kCrossing<T> == Crossing::cereal) {
      put<T>(value);
    } else {
      require_sendable<T>();
      if constexpr (Sendable<T>) put<T>(value);
    }
  }

  ByteSink* sink_;
  int depth_ = 0;
  std::unique_ptr<EncoderMemory> memory_;  // most values do without
};

/// Reads values from a ByteSource: the counterpart of Encoder, with the same rules. Whatever the
/// bytes are, what comes out is a value or a DecodeError.
class Decoder final : public cereal::detail::InputArchiveBase, private cereal::access {
 public:
  using is_loading = std::true_type;
  using is_saving = std::false_type;

  explicit Decoder(ByteSource& source) : source_(&source) {}

  [[nodiscard]] ByteSource& source() { return *source_; }
  [[nodiscard]] DecoderMemory& memory() {
    if (memory_ == nullptr) memory_ = std::make_unique<DecoderMemory>();
    return *memory_;
  }

  /// Reads a value of a Sendable type.
  template <class T>
  T get() {
    if constexpr (kCrossing<T> == Crossing::image) {
      return read_image<T>(*source_);
    } else if constexpr (kCrossing<T> == Crossing::codec) {
      return Codec<T>::read(*this);
    } else if constexpr (kCrossing<T> == Crossing::cereal) {
      return get_by_cereal<T>();
    } else if constexpr (kCrossing<T> == Crossing::nothing) {
      return T{};
    } else {
      return get_fields<T>(FieldTypes<T>{});
    }
  }

  /// Reads a value to where there is one already.
  template <class T>
  void get_to(T& value) {
    if constexpr (std::is_array_v<T>) {
      for (auto& element : value) get_to(element);
    } else if constexpr (kCrossing<T> == Crossing::cereal) {
      const Nesting nesting(depth_);
      load_by_cereal(*this, value);
    } else if constexpr (std::is_arithmetic_v<T> && !std::same_as<T, bool>) {
      source_->read(std::addressof(value), sizeof(T));
    } else {
      value = get<T>();
    }
  }

  /// Reads what put_size() wrote, unchecked.
  std::size_t get_number() {
    std::size_t number = std::to_integer<unsigned char>(*source_->take(1));
    if (number == Encoder::kLongSize) source_->read(&number, sizeof(number));
    return number;
  }

  /// Reads how many elements follow, each of at least `least` bytes. Throws DecodeError if there
  /// cannot be so many: checked here, before memory is taken for them.
  std::size_t get_size(std::size_t least) {
    const std::size_t size = get_number();
    if (size > source_->remaining() / std::max<std::size_t>(least, 1)) [[unlikely]] {
      source_->throw_corrupt("a number of elements (there are not so many bytes)");
    }
    return size;
  }

  /// For how many of `size` elements to reserve room at once: an element in memory may be far
  /// larger than in the bytes, so damaged bytes could ask for too much.
  template <class T>
  [[nodiscard]] std::size_t modest(std::size_t size) const {
    return std::min(size, (4096 + 8 * source_->remaining()) / sizeof(T));
  }

  template <class T>
  T get_element() {
    if constexpr (least_bytes<T>() == 0) source_->take(1);
    return get<T>();
  }
  template <class T>
  static constexpr std::size_t least_bytes_of_element() {
    return std::max<std::size_t>(least_bytes<T>(), 1);
  }

  // What cereal calls, by its names.
  // NOLINTBEGIN(readability-identifier-naming)
  template <class... Ts>
  Decoder& operator()(Ts&&... values) {
    (archive(values), ...);
    return *this;
  }
  template <class T>
  Decoder& operator&(T&& value) {
    return (*this)(value);
  }
  template <class T>
  Decoder& operator>>(T&& value) {
    return (*this)(value);
  }
  void serializeDeferments() { memory().run_deferred(); }
  std::shared_ptr<void> getSharedPointer(std::uint32_t id) {
    return memory().polymorphic_pointer(id);
  }
  void registerSharedPointer(std::uint32_t id, std::shared_ptr<void> pointer) {
    memory().note_polymorphic_pointer(id, std::move(pointer));
  }
  std::string getPolymorphicName(std::uint32_t id) { return memory().polymorphic_name(id); }
  void registerPolymorphicName(std::uint32_t id, const std::string& name) {
    memory().note_polymorphic_name(id, name);
  }
  template <class T>
  std::uint32_t loadClassVersion() {
    std::uint32_t* known = memory().version_of(typeid(T));
    return known != nullptr ? *known : memory().note_version(typeid(T), get<std::uint32_t>());
  }
  // NOLINTEND(readability-identifier-naming)

 private:
  /// It may be private, with cereal::access as a friend. Whether it is there cannot be asked; if
  /// not, the compiler names this function.
  template <class T>
  static std::unique_ptr<T> what_cereal_restores_needs_a_default_constructor() {
    return std::unique_ptr<T>(cereal::access::construct<T>());
  }

  template <class T>
  T get_by_cereal() {
    if constexpr (std::default_initializable<T>) {
      T value{};
      get_to(value);
      return value;
    } else {
      const std::unique_ptr<T> value = what_cereal_restores_needs_a_default_constructor<T>();
      get_to(*value);
      return std::move(*value);
    }
  }

  template <class T, class... Fields>
  T get_fields(TypeList<Fields...>) {
    const Nesting nesting(depth_);
    if constexpr ((std::is_array_v<Fields> || ...)) {
      T value{};
      for_each_field(value, [this](auto& field) { this->get_to(field); });
      return value;
    } else {
      return T{get<std::remove_const_t<Fields>>()...};  // in order, each built in its place
    }
  }

  template <class Marked>
  void archive(Marked& value) {
    using T = std::remove_cv_t<Marked>;
    if constexpr (kIsMarker<T, cereal::NameValuePair>) {
      archive(value.value);
    } else if constexpr (kIsMarker<T, cereal::SizeTag>) {
      value.size = static_cast<std::remove_cvref_t<decltype(value.size)>>(get_size(1));
    } else if constexpr (kIsMarker<T, cereal::BinaryData>) {
      source_->read(value.data, static_cast<std::size_t>(value.size));
    } else if constexpr (kIsMarker<T, cereal::base_class>) {
      archive(*value.base_ptr);
    } else if constexpr (kIsMarker<T, cereal::virtual_base_class>) {
      if (memory().first_of_object(value.base_ptr, typeid(*value.base_ptr))) {
        archive(*value.base_ptr);
      }
    } else if constexpr (kIsMarker<T, cereal::DeferredData>) {
      memory().defer([this, value] { archive(value.value); });
    } else if constexpr (std::is_array_v<T>) {
      for (auto& element : value) archive(element);
    } else if constexpr (kCrossing<T> == Crossing::cereal) {
      get_to(value);
    } else {
      require_sendable<T>();
      if constexpr (Sendable<T>) get_to(value);
    }
  }

  ByteSource* source_;
  int depth_ = 0;
  std::unique_ptr<DecoderMemory> memory_;
};

}  // namespace brood::detail
