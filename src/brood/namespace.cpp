#include <brood/namespace.hpp>

#include <stdexcept>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood {

namespace detail {

void throw_no_attribute(const std::string& name) {
  throw std::out_of_range(fmt::format("the namespace has no '{}'", name));
}

void throw_other_type(const std::string& name) {
  throw StateError(
      fmt::format("'{}' of the namespace has a value of another type than it was asked for: it is "
                  "to be read as "
                  "what it was set as",
                  name));
}

}  // namespace detail

Namespace::Namespace() : handle_(detail::HeldRecords::create(kObjectType, kLayout)) {}

Namespace::Namespace(detail::Handle handle) : handle_(std::move(handle)) {
  detail::HeldRecords::require_layout(handle_, kLayout);
}

void Namespace::put(const std::string& name, detail::CellSink& value) const {
  detail::Part part;
  value.seal(part);
  const Key wanted(name);
  Held held(handle_, kLayout);
  if (auto* const it = held.find(wanted.view())) {
    held.set(it, part);
  } else {
    detail::KeyPart key(held.heap(), wanted);
    held.insert(wanted.view(), key.part(), part);
    key.given();
  }
  value.given();
}

std::uint32_t Namespace::type_of(const std::string& name) const {
  const Key wanted(name);
  const Held held(handle_, kLayout);
  auto* const it = held.find(wanted.view());
  if (it == nullptr) return 0;
  detail::Cell::Words place;
  detail::ByteSource source(held.bytes_of(held.value_of(it), place));
  return read_type(source);
}

bool Namespace::contains(const std::string& name) const {
  const Key wanted(name);
  return Held(handle_, kLayout).find(wanted.view()) != nullptr;
}

bool Namespace::erase(const std::string& name) const {
  const Key wanted(name);
  Held held(handle_, kLayout);
  auto* const it = held.find(wanted.view());
  if (it != nullptr) held.erase(it);
  return it != nullptr;
}

void Namespace::clear() const { Held(handle_, kLayout).clear(); }

std::size_t Namespace::size() const { return Held(handle_, kLayout).size(); }

std::vector<std::string> Namespace::names() const {
  const Held held(handle_, kLayout);
  std::vector<std::string> all;
  all.reserve(held.size());
  held.for_each([&](detail::SharedWord* it) { all.push_back(Key::read(held, held.key_of(it))); });
  return all;
}

}  // namespace brood
