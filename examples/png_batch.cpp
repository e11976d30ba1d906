// A batch over a C library that crashes and hangs on bad input: libpng on good, truncated and
// damaged files, behind a decoder with two bugs and a secret of its own. Each bad file costs one
// error.
#include <brood/brood.hpp>

#include <png.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// Nobody asked it to.
void send_home(const std::string& /*path*/) {
  if (::socket(AF_INET, SOCK_STREAM, 0) < 0) {
    throw std::system_error(errno, std::generic_category(), "socket");
  }
}

// [decode]
/// The mean of all samples. Nothing in here may be trusted with a file from outside.
double brightness(const std::string& path) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_file(&image, path.c_str()) == 0) {
    throw std::runtime_error(image.message);
  }
  image.format = PNG_FORMAT_GRAY;
  std::vector<unsigned char> pixels(PNG_IMAGE_SIZE(image));
  if (png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr) == 0) {
    throw std::runtime_error(image.message);
  }
  if (image.width == 13) std::raise(SIGSEGV);  // the first bug
  while (image.width == 17) continue;          // the second
  if (image.width == 19) send_home(path);      // and who has read all of the library?
  double sum = 0;
  for (const unsigned char pixel : pixels) sum += pixel;
  return pixels.empty() ? 0 : sum / static_cast<double>(pixels.size());
}
// [/decode]

std::string make_png(const fs::path& path, unsigned width, unsigned char gray) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = width;
  image.height = 20;
  image.format = PNG_FORMAT_GRAY;
  const std::vector<unsigned char> pixels(PNG_IMAGE_SIZE(image), gray);
  png_image_write_to_file(&image, path.c_str(), 0, pixels.data(), 0, nullptr);
  return path.string();
}

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  std::string name = (fs::temp_directory_path() / "png-batch-XXXXXX").string();
  const fs::path folder = ::mkdtemp(name.data());
  std::vector<std::string> files;
  for (unsigned i = 0; i != 4; ++i) {
    files.push_back(make_png(folder / ("good" + std::to_string(i)), 20, 50));
  }
  files.push_back(make_png(folder / "truncated", 300, 1));
  fs::resize_file(files.back(), 60);
  files.push_back(make_png(folder / "damaged", 300, 1));
  std::fstream(files.back(), std::ios::in | std::ios::out).seekp(45).write("????", 4);
  files.push_back(make_png(folder / "crashes", 13, 1));
  files.push_back(make_png(folder / "hangs", 17, 1));
  files.push_back(make_png(folder / "spies", 19, 1));

  // [batch]
  using brood::Sandbox;
  brood::Pool pool({.workers = 2, .sandbox = Sandbox{.files = Sandbox::Files::read}});
  const auto outcomes =
      pool.with({.timeout = 500ms, .memory = 64 << 20}).try_map(brightness, files);
  for (std::size_t i = 0; i != files.size(); ++i) {
    std::printf("%-10s", fs::path(files[i]).filename().c_str());
    try {
      std::printf("%.1f\n", outcomes[i].value());
    } catch (const brood::WorkerCrashed& e) {
      std::printf("ended its worker by %s\n", e.signal_name().c_str());
    } catch (const brood::TaskTimeout&) {
      std::printf("took too long\n");
    } catch (const std::runtime_error& e) {
      std::printf("%s\n", e.what());
    }
  }
  // [/batch]
  fs::remove_all(folder);
}
