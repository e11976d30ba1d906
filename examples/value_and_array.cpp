// Shared data: values that processes count in, arrays that they fill, and large ones that nobody
// copies.
#include <brood/brood.hpp>

#include <cstdio>
#include <numeric>
#include <vector>

struct Account {
  long balance = 0;
  int bookings = 0;
};

// [functions]
void book(brood::Value<int> hits, brood::Guarded<Account> account, brood::Array<int> slots,
          int me) {
  for (int i = 0; i != 1000; ++i) {
    hits.fetch_add(1);             // one step of the processor
    auto locked = account.lock();  // a struct: under its lock, written back at the end of scope
    locked->balance += 10;
    ++locked->bookings;
  }
  slots.set(static_cast<std::size_t>(me), me * me);
}
void scale(brood::SharedArray<double> data, double by) {
  for (double& x : data) x *= by;
}
// [/functions]

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  // [main]
  brood::Value<int> hits(0);
  brood::Guarded<Account> account;
  brood::Array<int> slots(4);
  std::vector<brood::Process> processes;
  for (int i = 0; i != 4; ++i) processes.emplace_back(book, hits, account, slots, i).start();
  for (brood::Process& process : processes) process.join();
  std::printf("%d hits, balance %ld after %d bookings, slots %d %d %d %d\n", hits.get(),
              account.get().balance, account.get().bookings, slots.get(0), slots.get(1),
              slots.get(2), slots.get(3));

  brood::SharedArray<double> data(1'000'000, 1.0);
  brood::Process scaler(scale, data, 3.0);  // 8 bytes cross
  scaler.start();
  scaler.join();
  std::printf("the sum is %.0f\n", std::accumulate(data.begin(), data.end(), 0.0));
  // [/main]
}
