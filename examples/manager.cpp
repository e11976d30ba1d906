// Containers that all processes share, and objects of any class in a process of their own.
#include <brood/brood.hpp>

#include <csignal>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

// [containers]
void count(brood::Dict<std::string, int> words, brood::List<std::string> done,
           const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    words.update(text.substr(at, end - at), [](int& n) { ++n; });  // one step, whoever else counts
    at = end + 1;
  }
  done.push_back(brood::current_process().name());
}
void die_while_it_writes(brood::Dict<std::string, int> words) {
  for (int i = 0;; ++i) {
    words["abc"] = i;
    if (i == 1000) std::raise(SIGKILL);
  }
}
// [/containers]

// [class]
class Stock {  // any class: nothing is derived, nothing registered
 public:
  explicit Stock(std::map<std::string, int> items) : items_(std::move(items)) {}
  int take(const std::string& item, int n) {
    int& left = items_.at(item);
    if (n > left) throw std::out_of_range(std::to_string(left) + " left of " + item);
    return left -= n;
  }
  int left(const std::string& item) const { return items_.at(item); }

 private:
  std::map<std::string, int> items_;
};
// [/class]

// [buyer]
void buy(brood::Proxy<Stock> stock, int times) {
  for (int i = 0; i != times; ++i) stock.call<&Stock::take>("nail", 1);
}
// [/buyer]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  {
    // [dict]
    brood::Dict<std::string, int> words;
    brood::List<std::string> done;
    std::vector<brood::Process> processes;
    for (const char* text : {"the cat and the dog", "the dog", "a cat and a dog"})
      processes.emplace_back(count, words, done, std::string(text)).start();
    for (brood::Process& process : processes) process.join();

    const std::map<std::string, int> sorted(words.begin(), words.end());  // a snapshot
    for (const auto& [word, n] : sorted) std::printf("%s %d  ", word.c_str(), n);
    std::printf("by %zu processes\n", done.size());
    // [/dict]

    brood::Process victim(die_while_it_writes, words);
    victim.start();
    victim.join();
    words["abc"] += 1;  // no lock was left behind
    std::printf("after a death: %zu words, abc %d\n", words.size(), words.at("abc"));
  }

  // [manager]
  brood::Manager manager;
  const auto stock = manager.make<Stock>(std::map<std::string, int>{{"nail", 250}, {"saw", 2}});
  std::vector<brood::Process> buyers;
  for (int i = 0; i != 2; ++i) buyers.emplace_back(buy, stock, 100).start();
  for (brood::Process& buyer : buyers) buyer.join();
  std::printf("%d nails left\n", stock.call<&Stock::left>("nail"));
  try {
    stock.call<&Stock::take>("saw", 3);
  } catch (const std::out_of_range& e) {  // as itself, from the other process
    std::printf("refused: %s\n", e.what());
  }
  // [/manager]

  // [batch]
  brood::CallBatch batch;  // one message there, one back
  for (int i = 0; i != 10; ++i) batch.call<&Stock::take>(stock, "nail", 1);
  batch.run();
  auto later = stock.async<&Stock::left>("nail");  // a Future: work goes on here
  std::printf("%d nails left\n", later.get());
  // [/batch]

  // [serve]
  manager.publish("stock", stock);
  const std::string key = brood::authkey();
  const brood::Address address = manager.serve(brood::Address::tcp("127.0.0.1", 0), key);

  // In another program of the same build, on this machine or another:
  const auto remote = brood::Manager::connect(address, key).get<Stock>("stock");
  std::printf("from afar: %d nails left\n", remote.call<&Stock::left>("nail"));
  // [/serve]

  // [lost]
  ::kill(manager.pid(), SIGKILL);
  try {
    stock.call<&Stock::left>("nail");
  } catch (const brood::ManagerLost&) {  // at once, and so for every call that waits
    std::printf("the server is gone\n");
  }
  // [/lost]
}
