// What the demo counts and how, for identifiers.cpp and identifiers_cluster.cpp: the identifiers in
// every file below a folder.
//
// An identifier is what `LC_ALL=C grep -oE '\b[A-Za-z_][A-Za-z0-9_]*'` finds, wherever it stands.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

namespace identifiers {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// ---- What the workers do: count one batch of files ---------------------------------------------

// Files that one task counts. Files differ in size a thousandfold; batches hardly do.
using Batch = std::vector<std::string>;

// A file or folder that was not counted, and why.
struct Skipped {
  std::string path;
  std::string reason;
};

// One identifier of a Tally.
struct Word {
  std::uint32_t length;
  std::uint32_t count;
};

// What one batch comes to. The identifiers stand in one string and their numbers in one array, so
// that a tally crosses from process to process as two copies of memory.
struct Tally {
  std::string names;
  std::vector<Word> words;
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> binary;
  std::vector<Skipped> unreadable;
};

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};

// A map that finds a std::string_view without making a std::string of it.
template <class Number>
using Counts = std::unordered_map<std::string, Number, StringHash, std::equal_to<>>;

inline constexpr std::size_t kLargestFile = std::size_t{1}
                                            << 28;  // bytes; larger ones are reported
inline constexpr std::size_t kBinaryProbe = std::size_t{8}
                                            << 10;  // bytes; a NUL in them means binary

// For each byte: 0 ends an identifier, 1 may stand inside one, 2 may also begin one.
inline constexpr std::array<std::uint8_t, 256> kByteClass = [] {
  std::array<std::uint8_t, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[static_cast<std::size_t>(c)] = 1;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<std::size_t>(c)] = 2;
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<std::size_t>(c)] = 2;
  table['_'] = 2;
  return table;
}();

inline std::uint8_t byte_class(char c) { return kByteClass[static_cast<unsigned char>(c)]; }

inline void count_text(std::string_view text, Counts<std::uint32_t>& counts) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    const std::uint8_t first = byte_class(*at);
    if (first == 0) {
      ++at;
      continue;
    }
    const char* const begin = at;
    while (at != end && byte_class(*at) != 0) ++at;
    if (first == 1) continue;  // a number: 42, 0x1f, 1e5f
    const std::string_view name(begin, static_cast<std::size_t>(at - begin));
    if (const auto found = counts.find(name); found != counts.end())
      ++found->second;
    else
      counts.emplace(name, 1u);
  }
}

// Holds the content of one file after another in the same memory.
class FileReader {
 public:
  // The file's bytes, valid until the next call. Throws std::runtime_error that says why not.
  std::string_view read(const std::string& path) {
    // O_NONBLOCK: opening a FIFO without a writer must not wait for one.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) fail(errno);
    const auto close = [](const int* open_fd) { ::close(*open_fd); };
    const std::unique_ptr<const int, decltype(close)> closer(&fd, close);

    struct stat info {};
    if (::fstat(fd, &info) != 0) fail(errno);
    if (S_ISDIR(info.st_mode)) fail(EISDIR);
    if (!S_ISREG(info.st_mode)) throw std::runtime_error("not a regular file");
    check_size(static_cast<std::size_t>(info.st_size));
    std::size_t size = 0;
    for (;;) {  // to the end, whatever size was announced: the file may be growing
      if (size == capacity_) grow();
      const ssize_t got = ::read(fd, bytes_.get() + size, capacity_ - size);
      if (got == 0) return {bytes_.get(), size};
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(errno);
      size += static_cast<std::size_t>(got);
      check_size(size);
    }
  }

 private:
  [[noreturn]] static void fail(int error) { throw std::runtime_error(std::strerror(error)); }

  static void check_size(std::size_t size) {
    if (size > kLargestFile) throw std::runtime_error("larger than 256 MiB");
  }

  void grow() {
    const std::size_t larger = std::max(capacity_ * 2, std::size_t{1} << 20);
    std::unique_ptr<char[]> bytes(new char[larger]);
    if (capacity_ != 0) std::memcpy(bytes.get(), bytes_.get(), capacity_);
    bytes_ = std::move(bytes);
    capacity_ = larger;
  }

  std::unique_ptr<char[]> bytes_;
  std::size_t capacity_ = 0;
};

inline Tally count_batch(const Batch& batch) {
  Tally tally;
  Counts<std::uint32_t> counts;
  FileReader reader;
  for (const std::string& path : batch) {
    try {
      const std::string_view text = reader.read(path);
      if (text.substr(0, kBinaryProbe).find('\0') != std::string_view::npos) {
        tally.binary.push_back(path);
        continue;
      }
      count_text(text, counts);
      ++tally.files;
      tally.bytes += text.size();
    } catch (const std::runtime_error& error) {
      tally.unreadable.push_back({path, error.what()});
    }
  }
  tally.words.reserve(counts.size());
  for (const auto& [name, count] : counts) {
    tally.names += name;
    tally.words.push_back({static_cast<std::uint32_t>(name.size()), count});
  }
  return tally;
}

// ---- What is to be counted ---------------------------------------------------------------------

struct Tree {
  std::vector<Batch> batches;
  std::vector<Skipped> unreadable;  // folders
  std::size_t files = 0;
};

inline constexpr std::uintmax_t kBatchBytes = std::uintmax_t{1} << 20;
inline constexpr std::size_t kBatchFiles = 256;

inline void list_folder(const fs::path& folder,
                        std::vector<std::pair<std::string, std::uintmax_t>>& files,
                        std::vector<Skipped>& unreadable) {
  std::error_code error;
  std::vector<fs::path> folders;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;  // what has vanished since is reported by whoever reads it
    if (entry->is_symlink(ignored)) continue;
    if (entry->is_directory(ignored)) {
      folders.push_back(entry->path());
    } else {
      const std::uintmax_t size = entry->is_regular_file(ignored) ? entry->file_size(ignored) : 0;
      files.emplace_back(entry->path().string(), ignored ? 0 : size);
    }
  }
  if (error) unreadable.push_back({folder.string(), error.message()});
  for (const fs::path& below : folders) list_folder(below, files, unreadable);
}

inline Tree list_tree(const fs::path& root) {
  Tree tree;
  std::vector<std::pair<std::string, std::uintmax_t>> files;
  list_folder(root, files, tree.unreadable);
  std::sort(files.begin(), files.end());
  tree.files = files.size();
  std::uintmax_t bytes = kBatchBytes;  // so that the first file begins a batch
  for (auto& [path, size] : files) {
    if (bytes >= kBatchBytes || tree.batches.back().size() == kBatchFiles) {
      tree.batches.emplace_back();
      bytes = 0;
    }
    tree.batches.back().push_back(std::move(path));
    bytes += size;
  }
  return tree;
}

// Reads everything once: who counts first shall not be the one who waits for the disk.
inline void warm_up(const Tree& tree) {
  FileReader reader;
  for (const Batch& batch : tree.batches) {
    for (const std::string& path : batch) {
      try {
        reader.read(path);
      } catch (const std::runtime_error&) {  // whoever counts will report it
      }
    }
  }
}

// ---- What the batches come to ------------------------------------------------------------------

class Totals {
 public:
  void add(Tally tally) {
    const std::string& names = names_.emplace_back(std::move(tally.names));
    const char* at = names.data();
    for (const Word& word : tally.words) {
      counts_[std::string_view(at, word.length)] += word.count;
      identifiers_ += word.count;
      at += word.length;
    }
    files_ += tally.files;
    bytes_ += tally.bytes;
    std::move(tally.binary.begin(), tally.binary.end(), std::back_inserter(binary_));
    std::move(tally.unreadable.begin(), tally.unreadable.end(), std::back_inserter(unreadable_));
  }

  std::uint64_t files() const { return files_; }
  std::uint64_t bytes() const { return bytes_; }
  std::uint64_t identifiers() const { return identifiers_; }
  std::size_t distinct() const { return counts_.size(); }
  const std::vector<std::string>& binary() const { return binary_; }
  const std::vector<Skipped>& unreadable() const { return unreadable_; }

  // The most frequent identifiers, those of equal number in the order of the alphabet.
  std::vector<std::pair<std::string_view, std::uint64_t>> most_frequent(std::size_t n) const {
    std::vector<std::pair<std::string_view, std::uint64_t>> all(counts_.begin(), counts_.end());
    n = std::min(n, all.size());
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n), all.end(),
                      [](const auto& a, const auto& b) {
                        return a.second != b.second ? a.second > b.second : a.first < b.first;
                      });
    all.resize(n);
    return all;
  }

  // Whether every identifier occurs equally often in both.
  friend bool operator==(const Totals& a, const Totals& b) {
    return a.files_ == b.files_ && a.bytes_ == b.bytes_ && a.identifiers_ == b.identifiers_ &&
           a.counts_ == b.counts_;
  }

 private:
  std::deque<std::string> names_;  // a deque, for the keys below point into it
  std::unordered_map<std::string_view, std::uint64_t> counts_;
  std::uint64_t files_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t identifiers_ = 0;
  std::vector<std::string> binary_;
  std::vector<Skipped> unreadable_;
};

// A bar on a terminal, and a line for each quarter elsewhere.
class Progress {
 public:
  Progress(std::string title, bool quiet)
      : title_(std::move(title)), quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {}

  void operator()(std::size_t done, std::size_t total) {
    if (quiet_ || total == 0) return;
    const std::size_t percent = done * 100 / total;
    if (terminal_ && percent != shown_) {
      constexpr std::size_t kWidth = 40;
      const std::size_t full = percent * kWidth / 100;
      fmt::print(stderr, "\r{:<28} [{:=<{}}{: <{}}] {:3} %", title_, "", full, "", kWidth - full,
                 percent);
      shown_ = percent;
    } else if (!terminal_ && percent / 25 > shown_ / 25) {
      fmt::print(stderr, "{}: {} %\n", title_, percent);
      shown_ = percent;
    }
  }

  void finish() const {
    if (terminal_ && shown_ != 0) fmt::print(stderr, "\n");
  }

 private:
  std::string title_;
  bool quiet_;
  bool terminal_;
  std::size_t shown_ = 0;
};

// ---- Two ways --------------------------------------------------------------------------------

struct Timed {
  Totals totals;
  double seconds = 0;
};

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

inline Timed count_sequentially(const Tree& tree, Progress progress) {
  const auto start = Clock::now();
  Timed result;
  std::size_t done = 0;
  for (const Batch& batch : tree.batches) {
    result.totals.add(count_batch(batch));
    progress(++done, tree.batches.size());
  }
  result.seconds = seconds_since(start);
  progress.finish();
  return result;
}

// In processes, of this machine or of others: a pool is a pool. imap gives each tally as soon as it
// and those before it are there: this process adds up what has come while the workers count what is
// left. `watch` is told how many batches are done.
template <class Pool>
Timed count_in(Pool& pool, const Tree& tree, Progress progress,
               const std::function<void(std::size_t)>& watch = {}) {
  const auto start = Clock::now();
  Timed result;
  std::size_t done = 0;
  for (Tally tally : pool.imap(count_batch, tree.batches)) {
    result.totals.add(std::move(tally));
    progress(++done, tree.batches.size());
    if (watch) watch(done);
  }
  result.seconds = seconds_since(start);
  progress.finish();
  return result;
}

}  // namespace identifiers
