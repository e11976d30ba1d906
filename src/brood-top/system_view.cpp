#include "system_view.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>

#include <fmt/format.h>

#include <brood/errors.hpp>

namespace brood::top {
namespace {

std::string text_of(int pid, const char* name) {
  std::ifstream file(fmt::format("/proc/{}/{}", pid, name), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

double uptime() {
  std::ifstream file("/proc/uptime");
  double seconds = 0;
  file >> seconds;
  return seconds;
}

}  // namespace

std::optional<SystemView> look_at_process(int pid) {
  const std::string text = text_of(pid, "stat");
  const std::size_t end = text.rfind(')');  // the name may contain anything
  if (end == std::string::npos) return std::nullopt;
  std::istringstream rest(text.substr(end + 1));
  SystemView view;
  std::string skipped;
  double user = 0;
  double system = 0;
  double start = 0;
  std::uint64_t pages = 0;
  rest >> view.state >> view.parent;
  for (int field = 5; field <= 13; ++field) rest >> skipped;
  rest >> user >> system;
  for (int field = 16; field <= 19; ++field) rest >> skipped;
  rest >> view.threads >> skipped >> start >> skipped >> pages;
  if (!rest) return std::nullopt;
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  view.cpu_seconds = (user + system) / ticks;
  view.age_seconds = uptime() - start / ticks;
  view.resident_bytes = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return view;
}

std::string family_variable_of(int pid) {
  const std::string all = text_of(pid, "environ");
  constexpr std::string_view kName = "BROOD_FAMILY=";
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = std::min(all.find('\0', begin), all.size());
    const std::string_view entry(all.data() + begin, end - begin);
    if (entry.starts_with(kName)) return std::string(entry.substr(kName.size()));
    begin = end + 1;
  }
  return {};
}

detail::Fd open_family_memory(int pid) {
  const std::string folder = fmt::format("/proc/{}/fd", pid);
  const auto close = [](DIR* open) { ::closedir(open); };
  const std::unique_ptr<DIR, decltype(close)> entries(::opendir(folder.c_str()), close);
  if (!entries) {
    if (errno == ENOENT) throw StateError(fmt::format("there is no process {}", pid));
    throw SystemError("opendir", fmt::format("path={}; only its user and root may", folder), errno);
  }
  while (const dirent* entry = ::readdir(entries.get())) {
    const std::string path = folder + "/" + entry->d_name;
    std::string target(64, '\0');
    const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
    target.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    if (target.rfind("/memfd:brood (deleted)", 0) != 0) continue;
    detail::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) throw SystemError("open", "path=" + path, errno);
    return file;
  }
  throw StateError(fmt::format("process {} is in no family of Brood's", pid));
}

}  // namespace brood::top
