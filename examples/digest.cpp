// Digests of all files below a folder, with a progress bar: digest [FOLDER].
#include <brood/brood.hpp>

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace fs = std::filesystem;

struct Digest {
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  std::uintmax_t bytes = 0;
};

Digest digest_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot be opened");
  Digest digest;
  std::vector<char> buffer(1 << 16);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0) {
    for (std::streamsize i = 0; i != file.gcount(); ++i) {
      digest.hash ^= static_cast<unsigned char>(buffer[static_cast<std::size_t>(i)]);
      digest.hash *= 1099511628211U;
    }
    digest.bytes += static_cast<std::uintmax_t>(file.gcount());
  }
  return digest;
}

// [bar]
void show(std::size_t done, std::size_t total) {
  if (::isatty(2) == 0 || total == 0) return;
  const int width = static_cast<int>(done * 40 / total);
  std::fprintf(stderr, "\r[%.*s%*s] %zu/%zu%s", width, "########################################",
               40 - width, "", done, total, done == total ? "\n" : "");
}
// [/bar]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  const fs::path folder = argc > 1 ? argv[1] : ".";
  std::vector<std::string> files;
  for (const auto& entry :
       fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());

  // [map]
  brood::Pool pool;
  const auto outcomes = pool.with({.progress = show}).try_map(digest_of, files);
  // [/map]
  for (std::size_t i = 0; i != files.size(); ++i) {
    const std::string name = fs::relative(files[i], folder).string();
    if (outcomes[i]) {
      std::printf("%016lx %8ju  %s\n", static_cast<unsigned long>(outcomes[i]->hash),
                  outcomes[i]->bytes, name.c_str());
    } else {
      std::printf("%-25s  %s\n", "not readable", name.c_str());
    }
  }
}
