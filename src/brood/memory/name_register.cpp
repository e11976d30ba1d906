#include <brood/memory/name_register.hpp>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include <brood/errors.hpp>
#include <brood/platform/memory_file.hpp>
#include <brood/platform/unix_socket.hpp>

namespace brood::detail {
namespace {

bool free_word(std::atomic<std::uint64_t>& word, std::uint64_t expected) noexcept {
  NameWord next = NameWord::unpack(expected);
  next.state = NameState::free;
  next.dies_with_owner = false;
  next.owner = Tag();
  return word.compare_exchange_strong(expected, next.pack());
}

bool is_socket(const std::string& name) { return name.starts_with('/'); }

std::optional<FileIdentity> find(const std::string& name) {
  return is_socket(name) ? find_socket(name) : find_memory(name);
}

void unlink_if(const std::string& name, FileIdentity identity) {
  if (is_socket(name)) {
    unlink_socket_if(name, identity);
  } else {
    unlink_memory_if(name, identity);
  }
}

}  // namespace

std::string NameRegister::Content::text() const {
  const auto* letters = reinterpret_cast<const char*>(name.data());
  return {letters, ::strnlen(letters, sizeof name)};
}

template <class Visit>
void NameRegister::for_each(Visit visit) const noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    const std::uint64_t word = entries_[i].word.load();
    // Lowest first, so all behind the first that was never used are untouched pages.
    if (NameWord::unpack(word).generation == 0) break;
    if (NameWord::unpack(word).state != NameState::free) visit(entries_[i], word);
  }
}

std::vector<Tag> NameRegister::owners() const {
  std::vector<Tag> owners;
  for_each([&](const NameEntry&, std::uint64_t word) {
    owners.push_back(NameWord::unpack(word).owner);
  });
  return owners;
}

// SUBTLE: the loads acquire and the stores in add() release. Who reads something of a later
// registration sees the word that claimed the entry for it, or a later one, and so reads in vain.
bool NameRegister::read(const NameEntry& entry, std::uint64_t word,
                        Content& content) const noexcept {
  content.identity.device = entry.device.load(std::memory_order_acquire);
  content.identity.inode = entry.inode.load(std::memory_order_acquire);
  for (std::size_t i = 0; i < content.name.size(); ++i) {
    content.name[i] = entry.name[i].load(std::memory_order_acquire);
  }
  return entry.word.load() == word;
}

NameRegister::Registration NameRegister::add(Tag owner, std::string_view name,
                                             FileIdentity identity, bool dies_with_owner) {
  assert(name.size() <= kLongestMemoryName);
  const auto page = [this](std::size_t bytes) {
    return reinterpret_cast<std::byte*>(entries_) + bytes / page_size() * page_size();
  };
  std::size_t populated = 0;
  for (int attempt = 0; attempt < 2; ++attempt) {
    for (std::size_t i = 0; i < count_; ++i) {
      // A page that cannot be had is an error here and would be SIGBUS below.
      for (; populated < (i + 1) * sizeof(NameEntry); populated += page_size()) {
        if (!populate_pages(page(populated), page_size())) {
          throw SharedMemoryFull("no memory is left for the register of the family's names");
        }
      }
      NameEntry& entry = entries_[i];
      std::uint64_t old = entry.word.load();
      NameWord word = NameWord::unpack(old);
      if (word.state != NameState::free) continue;
      word.generation = word.generation == UINT32_MAX ? 1 : word.generation + 1;
      word.owner = owner;
      word.dies_with_owner = dies_with_owner;
      word.state = NameState::claimed;
      if (!entry.word.compare_exchange_strong(old, word.pack())) continue;
      // release: pairs with the acquire in read().
      entry.device.store(identity.device, std::memory_order_release);
      entry.inode.store(identity.inode, std::memory_order_release);
      std::array<std::uint64_t, NameEntry::kWords> words{};
      std::copy(name.begin(), name.end(), reinterpret_cast<char*>(words.data()));
      for (std::size_t w = 0; w < words.size(); ++w) {
        entry.name[w].store(words[w], std::memory_order_release);
      }
      word.state = NameState::registered;
      entry.word.store(word.pack());  // the commit: from here on the name is taken away
      return {i, word.pack()};
    }
    if (!reclaim()) break;
  }
  throw SharedMemoryFull(fmt::format(
      "the family has {} names already, in /dev/shm and of sockets, which is the most: unlink some",
      count_));
}

void NameRegister::confirm(Registration& registration) noexcept {
  if (registration.word == 0) return;
  NameWord word = NameWord::unpack(registration.word);
  word.state = NameState::published;
  std::uint64_t expected = registration.word;
  // It may have been taken away by name already, and the entry freed.
  if (entries_[registration.index].word.compare_exchange_strong(expected, word.pack())) {
    registration.word = word.pack();
  }
}

void NameRegister::remove(Registration registration) noexcept {
  if (registration.word != 0) free_word(entries_[registration.index].word, registration.word);
}

void NameRegister::forget(std::string_view name, FileIdentity identity) noexcept {
  std::array<std::uint64_t, NameEntry::kWords> words{};
  std::copy_n(name.begin(), std::min(name.size(), kLongestMemoryName),
              reinterpret_cast<char*>(words.data()));
  for_each([&](NameEntry& entry, std::uint64_t word) {
    Content content{};
    if (NameWord::unpack(word).state != NameState::claimed && read(entry, word, content) &&
        content.identity == identity && content.name == words) {
      free_word(entry.word, word);
    }
  });
}

void NameRegister::unlink_entry(NameEntry& entry, std::uint64_t word) noexcept {
  Content content{};
  if (NameWord::unpack(word).state != NameState::claimed) {
    if (!read(entry, word, content)) return;  // somebody else has freed it
    try {
      if (content.identity.inode != 0) {
        unlink_if(content.text(), content.identity);
      } else {
        unlink_memory(content.text());
      }
    } catch (const std::exception& e) {
      static_cast<void>(e);  // it does not exist
    }
  }
  free_word(entry.word, word);
}

void NameRegister::unlink_of(Tag dead) noexcept {
  for_each([&](NameEntry& entry, std::uint64_t bits) {
    const NameWord word = NameWord::unpack(bits);
    if (word.owner != dead) return;
    Content content{};
    const bool half = word.state == NameState::registered;
    if (word.dies_with_owner || word.state == NameState::claimed) {
      unlink_entry(entry, bits);
    } else if (half && read(entry, bits, content)) {
      // Killed before the name, after it, or between a first name and the final one.
      if (content.identity.inode == 0) {
        unlink_entry(entry, bits);
      } else if (find(content.text()) == content.identity) {
        Registration registration{static_cast<std::size_t>(&entry - entries_), bits};
        confirm(registration);
      } else {
        free_word(entry.word, bits);
      }
    }
  });
}

void NameRegister::unlink_all() noexcept {
  for_each([&](NameEntry& entry, std::uint64_t word) { unlink_entry(entry, word); });
}

bool NameRegister::reclaim() noexcept {
  bool any = false;
  for_each([&](NameEntry& entry, std::uint64_t word) {
    Content content{};
    if (NameWord::unpack(word).state == NameState::published && read(entry, word, content) &&
        find(content.text()) != content.identity) {
      any = free_word(entry.word, word) || any;
    }
  });
  return any;
}

std::size_t NameRegister::size() const noexcept {
  std::size_t names = 0;
  for_each([&](const NameEntry&, std::uint64_t) { ++names; });
  return names;
}

}  // namespace brood::detail
