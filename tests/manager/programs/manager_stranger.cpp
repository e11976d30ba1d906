// Another program than the one that serves: ARGUMENTS port key. It may connect, and be told that it
// is another build.
#include <brood/brood.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <typeinfo>

struct Ledger {
  long add(long n) { return n; }
};

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  if (argc < 3) return 2;
  const auto port = static_cast<std::uint16_t>(std::atoi(argv[1]));
  try {
    auto remote =
        brood::Manager::connect(brood::Address::tcp("127.0.0.1", port), std::string(argv[2]));
    std::puts("connected");
    const auto ledger = remote.get<Ledger>("ledger");
    std::printf("%ld\n", ledger.call<&Ledger::add>(1));
  } catch (const brood::UnknownFunction& e) {
    std::printf("unknown function: %s\n", e.what());
  } catch (const brood::Error& e) {
    std::printf("error: %s\n", e.what());
  }
}
