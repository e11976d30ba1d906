#include <brood/shared_memory.hpp>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/memory/member.hpp>
#include <brood/memory/name_register.hpp>
#include <brood/platform/memory_file.hpp>
#include <brood/platform/named_memory.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood {
namespace detail {

/// Which file has, or had, the name.
struct NamedFile {
  std::string name;
  FileIdentity identity;
};

/// One mapping in this process of a file with a name.
class NamedMapping {
 public:
  NamedMapping(std::shared_ptr<const NamedFile> named, Fd file, Mapping mapping, std::size_t size)
      : named_(std::move(named)), fd_(std::move(file)), mapping_(std::move(mapping)), size_(size) {}
  NamedMapping(const NamedMapping&) = delete;
  NamedMapping& operator=(const NamedMapping&) = delete;
  ~NamedMapping() {
    // Not in a fork of the creator.
    if (owner_pid_ != 0 && owner_pid_ == current_pid()) take_name_away();
  }

  /// From now on the name ends with this object.
  void own_name() { owner_pid_ = current_pid(); }
  void drop_descriptor() { fd_.reset(); }

  [[nodiscard]] std::byte* data() const { return mapping_.data(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] const Fd& descriptor() const { return fd_; }

 private:
  void take_name_away() noexcept {
    try {
      unlink_memory_if(named_->name, named_->identity);
      if (const auto member = Member::current()) {
        member->segment().names().forget(named_->name, named_->identity);
      }
    } catch (const std::exception& e) {
      static_cast<void>(e);  // no memory for a path: the family's end takes it away
    }
  }

  std::shared_ptr<const NamedFile> named_;
  Fd fd_;
  Mapping mapping_;
  std::size_t size_;  // the mapping has whole pages
  int owner_pid_ = 0;
};

namespace {

using Fill = std::function<void(SharedMemory::Bytes)>;

/// How often a generated name is tried that somebody else has: it has 128 random bits.
constexpr int kAttempts = 16;

[[noreturn]] void throw_taken(const std::string& name) {
  throw SystemError("shm_open", fmt::format("name={}, new", name), EEXIST);
}
[[noreturn]] void throw_not_that(const std::string& name) {
  throw SystemError("shm_open", fmt::format("name={}: it means other memory now", name), ENOENT);
}

/// Makes a piece of memory and gives it its name. See docs/design/shared_memory.md.
class Creation {
 public:
  Creation(std::size_t bytes, const SharedMemoryOptions& options)
      : bytes_(bytes), options_(options), file_(std::make_shared<NamedFile>()) {
    if (bytes == 0) throw ArgumentError("shared memory of size 0 cannot be made");
    if (!options.name.empty()) {
      check_memory_name(options.name);
      if (find_memory(options.name)) throw_taken(options.name);  // before much work is done
    }
    if (options.lifetime == Lifetime::until_unlinked) {
      member_ = Member::current();
    } else {
      member_ = Member::require();
      member_->ensure_watched();
    }
  }

  void run(const Fill& fill) {
    Fd unnamed = create_unnamed_memory(bytes_);
    if (unnamed.valid()) {
      map(std::move(unnamed));
      if (fill) fill({mapping_->data(), bytes_});
      const auto publish = [this](const std::string& name) {
        return publish_memory(mapping_->descriptor(), name);
      };
      if (give_name(publish)) return;
    }
    // Nameless files, or names for them, are not to be had: under a name that nobody guesses first.
    const std::shared_ptr<NamedMapping> filled = std::move(mapping_);
    const Draft draft(member_.get());
    map(create_named_memory(draft.name(), bytes_));
    if (filled) {
      std::memcpy(mapping_->data(), filled->data(), bytes_);
    } else if (fill) {
      fill({mapping_->data(), bytes_});
    }
    give_name([&](const std::string& name) { return rename_memory(draft.name(), name); });
  }

  [[nodiscard]] std::shared_ptr<const NamedFile> file() const { return file_; }
  [[nodiscard]] std::shared_ptr<NamedMapping> mapping() const { return mapping_; }

 private:
  /// A first name of the object, registered while it may exist.
  class Draft {
   public:
    explicit Draft(Member* member) : member_(member), name_(".brood_" + random_digits()) {
      if (member_ != nullptr) {
        registration_ =
            member_->segment().names().add(member_->self(), name_, FileIdentity{}, true);
      }
    }
    Draft(const Draft&) = delete;
    Draft& operator=(const Draft&) = delete;
    ~Draft() {
      try {
        unlink_memory(name_);
      } catch (const Error& e) {
        static_cast<void>(e);  // it is the object's final one by now, or was never made
      }
      if (member_ != nullptr) member_->segment().names().remove(registration_);
    }
    [[nodiscard]] const std::string& name() const { return name_; }

   private:
    Member* member_;
    std::string name_;
    NameRegister::Registration registration_;
  };

  void map(Fd file) {
    file_->identity = identity_of(file);
    Mapping mapping(file, bytes_);
    mapping_ = std::make_shared<NamedMapping>(file_, std::move(file), std::move(mapping), bytes_);
  }

  /// False: there is no way to give it one. All memory that is needed afterwards is there before.
  template <class Publish>
  bool give_name(Publish publish) {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      file_->name = options_.name.empty() ? "brood_" + random_digits() : options_.name;
      NameRegister::Registration registration;
      const bool registers = options_.lifetime != Lifetime::until_unlinked;
      NameRegister* names = registers ? &member_->segment().names() : nullptr;
      if (registers) {
        registration = names->add(member_->self(), file_->name, file_->identity,
                                  options_.lifetime == Lifetime::object);
      }
      Published result = Published::impossible;
      try {
        result = publish(file_->name);
      } catch (...) {
        if (registers) names->remove(registration);
        throw;
      }
      if (result == Published::yes) {
        if (registers) names->confirm(registration);
        if (options_.lifetime == Lifetime::object) mapping_->own_name();
        return true;
      }
      if (registers) names->remove(registration);
      if (result == Published::impossible) return false;
      if (!options_.name.empty()) break;
    }
    throw_taken(file_->name);
  }

  std::size_t bytes_;
  const SharedMemoryOptions& options_;
  std::shared_ptr<Member> member_;  // none: the name is nobody's
  std::shared_ptr<NamedFile> file_;
  std::shared_ptr<NamedMapping> mapping_;
};

std::shared_ptr<NamedMapping> attach_to(const std::shared_ptr<NamedFile>& named,
                                        std::optional<FileIdentity> expected) {
  check_memory_name(named->name);
  Fd file = open_named_memory(named->name);
  named->identity = identity_of(file);
  if (expected && *expected != named->identity) throw_not_that(named->name);
  const std::size_t size = file_size(file);
  if (size == 0) {
    throw SystemError(
        "mmap", fmt::format("name={}: its size is 0, its maker has not set it (yet)", named->name),
        EINVAL);
  }
  Mapping mapping(file, size);
  return std::make_shared<NamedMapping>(named, std::move(file), std::move(mapping), size);
}

std::shared_ptr<NamedFile> file_of(std::string_view name) {
  return std::make_shared<NamedFile>(NamedFile{.name = std::string(name), .identity = {}});
}

void note_unlinked(const std::string& name, FileIdentity identity) {
  if (const auto member = Member::current()) member->segment().names().forget(name, identity);
}

}  // namespace

SharedMemory SharedMemoryAccess::create_with_file(std::size_t bytes,
                                                  const SharedMemoryOptions& options,
                                                  const Fill& fill) {
  Creation creation(bytes, options);
  creation.run(fill);
  return {creation.file(), creation.mapping()};
}

SharedMemory SharedMemoryAccess::attach_with_file(std::string_view name,
                                                  const FileIdentity* identity) {
  auto file = file_of(name);
  auto mapping =
      attach_to(file, identity == nullptr ? std::nullopt : std::optional<FileIdentity>(*identity));
  return {std::move(file), std::move(mapping)};
}

SharedMemory SharedMemoryAccess::attach(std::string_view name, const FileIdentity& identity) {
  auto file = file_of(name);
  auto mapping = attach_to(file, identity);
  mapping->drop_descriptor();
  return {std::move(file), std::move(mapping)};
}

const FileIdentity& SharedMemoryAccess::identity(const SharedMemory& memory) {
  return memory.file().identity;
}
const Fd& SharedMemoryAccess::descriptor(const SharedMemory& memory) {
  return memory.open().descriptor();
}

}  // namespace detail

using detail::NamedMapping;

SharedMemory::SharedMemory(std::shared_ptr<const detail::NamedFile> file,
                           std::shared_ptr<const NamedMapping> mapping) noexcept
    : file_(std::move(file)), mapping_(std::move(mapping)) {}

SharedMemory SharedMemory::create(std::size_t bytes, const SharedMemoryOptions& options,
                                  const std::function<void(Bytes)>& fill) {
  detail::Creation creation(bytes, options);
  creation.run(fill);
  creation.mapping()->drop_descriptor();
  return {creation.file(), creation.mapping()};
}

SharedMemory SharedMemory::attach(std::string_view name) {
  auto file = detail::file_of(name);
  auto mapping = detail::attach_to(file, std::nullopt);
  mapping->drop_descriptor();
  return {std::move(file), std::move(mapping)};
}

SharedMemory SharedMemory::attach(std::string_view name, std::size_t bytes) {
  SharedMemory memory = attach(name);
  if (memory.size() != bytes) {
    throw ArgumentError(
        fmt::format("shared memory \"{}\" has {} bytes, not {}", name, memory.size(), bytes));
  }
  return memory;
}

void SharedMemory::unlink(std::string_view name) {
  detail::check_memory_name(name);
  const std::string text(name);
  const auto identity = detail::find_memory(text);
  detail::unlink_memory(text);
  if (identity) detail::note_unlinked(text, *identity);
}

void SharedMemory::unlink() const {
  const detail::NamedFile& named = file();
  if (detail::find_memory(named.name) != named.identity) detail::throw_not_that(named.name);
  detail::unlink_memory(named.name);
  detail::note_unlinked(named.name, named.identity);
}

void SharedMemory::close() noexcept { mapping_.reset(); }
bool SharedMemory::closed() const noexcept { return mapping_ == nullptr; }

const detail::NamedFile& SharedMemory::file() const {
  if (file_ == nullptr) throw StateError("this SharedMemory was moved from");
  return *file_;
}

const NamedMapping& SharedMemory::open() const {
  if (mapping_ == nullptr) {
    throw StateError(fmt::format("shared memory \"{}\" is closed here", file().name));
  }
  return *mapping_;
}

const std::string& SharedMemory::name() const { return file().name; }
std::size_t SharedMemory::size() const { return open().size(); }
SharedMemory::Bytes SharedMemory::bytes() const { return {open().data(), open().size()}; }

bool SharedMemory::same(const SharedMemory& a, const SharedMemory& b) noexcept {
  if (a.file_ == nullptr || b.file_ == nullptr) return a.file_ == b.file_;
  return a.file_->identity == b.file_->identity;
}

void* SharedMemory::place(std::size_t offset, std::size_t count, std::size_t size,
                          std::size_t alignment) const {
  const NamedMapping& mapping = open();
  if (offset > mapping.size() || count > (mapping.size() - offset) / size) {
    throw ArgumentError(
        fmt::format("{} values of {} bytes from {} on do not fit into the {} bytes "
                    "of shared memory \"{}\"",
                    count, size, offset, mapping.size(), name()));
  }
  // The beginning is that of a page, which no T asks for more than.
  if (offset % alignment != 0 || alignment > detail::page_size()) {
    throw ArgumentError(fmt::format("offset {} of shared memory \"{}\" is not a multiple of {}",
                                    offset, name(), alignment));
  }
  return mapping.data() + offset;
}

std::size_t SharedMemory::count_of(std::size_t size) const {
  const std::size_t all = open().size();
  if (all % size != 0) {
    throw ArgumentError(
        fmt::format("the {} bytes of shared memory \"{}\" are no whole number of "
                    "values of {} bytes",
                    all, name(), size));
  }
  return all / size;
}

}  // namespace brood
