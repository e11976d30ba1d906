// Lines are read, worked on by processes, looked up by threads, and collected in order; one line
// crashes its worker.
#include <brood/brood.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

// [stages]
struct Order {
  int number = 0;
  double amount = 0;
};

Order parse(const std::string& line) {
  if (line == "boom") std::raise(SIGKILL);  // as a parser does that nobody trusts
  Order order;
  if (std::sscanf(line.c_str(), "%d %lf", &order.number, &order.amount) != 2) {
    throw std::invalid_argument("not an order: " + line);
  }
  return order;
}

Order with_tax(Order order) {
  order.amount *= 1.19;
  return order;
}
// [/stages]

std::string customer_of(int number) {
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // asks some server
  return number % 2 == 0 ? "Anna" : "Bert";
}

int main(int argc, char** argv) {
  brood::Runtime runtime(argc, argv);
  const std::vector<std::string> lines{"1 10", "2 20.5", "three", "4 1000", "boom", "6 7.25"};

  // [pipeline]
  const auto orders = brood::pipeline()
                          .source(lines)
                          .parallel(parse, {.name = "parse"})  // both on one worker,
                          .parallel(with_tax)                  // one after the other
                          .parallel(
                              [](const Order& order) {
                                return customer_of(order.number) + " pays " +
                                       std::to_string(static_cast<int>(order.amount));
                              },
                              {.threads = 8, .name = "customer"});
  // [/pipeline]

  // [first]
  try {
    orders.in_order([](const std::string& line) { std::printf("%s\n", line.c_str()); })
        .run({.workers = 2, .max_in_flight = 64});
  } catch (const std::invalid_argument& e) {
    std::printf("ended: %s\n", e.what());
  }
  // [/first]

  // [outcomes]
  const brood::PipelineStats stats =
      orders
          .try_in_order([](const brood::Outcome<std::string>& line) {
            std::printf("%s\n", line ? line->c_str() : "an order that is none");
          })
          .run({.workers = 2});
  for (const brood::StageStats& stage : stats.stages) {
    std::printf("%s, %s: %llu items, %llu failed, %llu deaths\n", stage.name.c_str(),
                stage.on.c_str(), static_cast<unsigned long long>(stage.items),
                static_cast<unsigned long long>(stage.failed),
                static_cast<unsigned long long>(stage.deaths));
  }
  // [/outcomes]
}
