#include <brood/platform/terminal.hpp>

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace brood::detail {

int terminal_columns(int fd) noexcept {
  constexpr int kUsual = 80;
  if (::isatty(fd) != 1) return 0;
  const char* const kind = std::getenv("TERM");
  if (kind == nullptr || std::string_view(kind) == "dumb") return 0;
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsual;
  return size.ws_col;
}

}  // namespace brood::detail
