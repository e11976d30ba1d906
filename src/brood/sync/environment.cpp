#include <brood/sync/environment.hpp>

#include <array>
#include <memory>

#include <brood/platform/cpu.hpp>

namespace brood::detail {

bool Environment::dead(Tag tag) noexcept {
  const std::shared_ptr<Member> member = Member::current();
  return member && !member->registry().alive(tag);
}

Environment::Glance Environment::look() { return Member::require()->look(); }

void Environment::sleep(Glance glance, const Word& word, std::uint32_t expected,
                        std::span<const Tag> holders, Deadline deadline) {
  const std::array<FutexWord, 1> words{FutexWord{&word, expected}};
  Member::require()->sleep(glance, words, holders, deadline);
}

void Environment::announce() noexcept {
  if (const std::shared_ptr<Member> member = Member::current()) {
    detail::announce(member->segment().header());
  }
}

int Environment::spins() noexcept {
  static const int spins = affinity_count() > 1 ? 100 : 0;
  return spins;
}

}  // namespace brood::detail
