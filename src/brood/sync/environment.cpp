#include <brood/sync/environment.hpp>

#include <array>
#include <memory>
#include <string>

#include <fmt/format.h>

#include <brood/platform/cpu.hpp>

namespace brood::detail {

bool Environment::dead(Tag tag) noexcept {
  const std::shared_ptr<Member> member = Member::current();
  return member && !member->registry().alive(tag);
}

std::string Environment::describe(Tag tag) {
  Registry& registry = Member::require()->registry();
  const Tag process = registry.process_of(tag);
  // Whose slot somebody else has by now cannot be named any more.
  if (process.none() || !registry.word(process)) return "a party that is gone";
  std::string text =
      fmt::format("{} (pid {})", registry.name(process), registry.record(process).pid.load());
  return tag == process ? text : "a thread of " + text;
}

Environment::Glance Environment::look() { return Member::require()->look(); }

bool Environment::may_have_died(Glance since) {
  const std::shared_ptr<Member> member = Member::require();
  return member->look() != since || !member->watched();
}

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
