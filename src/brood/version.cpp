#include <brood/version.hpp>

namespace brood {

Version library_version() noexcept { return kVersion; }

}  // namespace brood
