// expect: a lambda that captures cannot cross to another process
#include <brood/pipeline.hpp>

void refused() {
  int offset = 3;
  brood::pipeline()
      .source([]() -> std::optional<int> { return {}; })
      .parallel([offset](int n) { return n + offset; })
      .run();
}
