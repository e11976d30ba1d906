// Layer: channel
// What the archives remember while they write or read one value: only values with shared pointers,
// versions and the like need it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <typeindex>
#include <utility>
#include <vector>

namespace brood::detail {

/// Limits how deeply classes are nested in each other, while it lives: recursion uses the stack,
/// and bytes of another process, or a list of pointers to itself, must not exhaust it.
class Nesting {
 public:
  static constexpr int kMost = 1000;

  explicit Nesting(int& depth) : depth_(depth) {
    if (depth_ >= kMost) [[unlikely]]
      throw_too_deep();
    ++depth_;
  }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;
  ~Nesting() { --depth_; }

 private:
  [[noreturn]] static void throw_too_deep();
  int& depth_;
};

class ArchiveMemory {
 public:
  /// False if it was asked before, for an object's virtual base class.
  bool first_of_object(const void* object, std::type_index type) {
    return objects_.emplace(object, type).second;
  }
  void defer(std::function<void()> action) { deferred_.push_back(std::move(action)); }
  void run_deferred();

 private:
  std::set<std::pair<const void*, std::type_index>> objects_;
  std::vector<std::function<void()>> deferred_;
};

class EncoderMemory : public ArchiveMemory {
 public:
  /// The number of a shared object, and whether it is new. Objects count with their types: a struct
  /// and its first member lie at the same address.
  std::pair<std::size_t, bool> shared_object(std::shared_ptr<const void> object,
                                             std::type_index type);
  /// False if a version was asked for before.
  bool first_of_class(std::type_index type) { return versioned_.insert(type).second; }
  // In the way of cereal: the highest bit marks the first time.
  std::uint32_t polymorphic_pointer(const std::shared_ptr<const void>& pointer);
  std::uint32_t polymorphic_name(const std::string& name);

 private:
  std::map<std::pair<const void*, std::type_index>, std::size_t> shared_;
  std::set<std::type_index> versioned_;
  std::map<const void*, std::uint32_t> polymorphic_;
  std::map<std::string, std::uint32_t> names_;
  std::vector<std::shared_ptr<const void>> kept_;  // or the address could be used anew
};

class DecoderMemory : public ArchiveMemory {
 public:
  /// Makes room for the next shared object, whose number it returns.
  std::size_t expect_shared_object(std::type_index type);
  void note_shared_object(std::size_t number, std::shared_ptr<void> object) {
    shared_[number].object = std::move(object);
  }
  /// The shared object of this number, which must be of this type. Throws DecodeError if there is
  /// none, or not yet.
  std::shared_ptr<void> shared_object(std::size_t number, std::type_index type) const;

  std::uint32_t* version_of(std::type_index type);
  std::uint32_t note_version(std::type_index type, std::uint32_t version);
  std::shared_ptr<void> polymorphic_pointer(std::uint32_t id) const;
  void note_polymorphic_pointer(std::uint32_t id, std::shared_ptr<void> pointer);
  const std::string& polymorphic_name(std::uint32_t id) const;
  void note_polymorphic_name(std::uint32_t id, const std::string& name);

 private:
  struct Shared {
    std::type_index type;
    std::shared_ptr<void> object;
  };
  std::vector<Shared> shared_;
  std::map<std::type_index, std::uint32_t> versions_;
  std::map<std::uint32_t, std::shared_ptr<void>> polymorphic_;
  std::map<std::uint32_t, std::string> names_;
};

}  // namespace brood::detail
