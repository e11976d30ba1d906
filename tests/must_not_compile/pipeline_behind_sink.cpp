// expect: the stage before returns nothing: it is the end
#include <brood/pipeline.hpp>

void refused() {
  brood::pipeline()
      .source([]() -> std::optional<int> { return {}; })
      .serial([](int) {})
      .serial([](int) {})
      .run();
}
