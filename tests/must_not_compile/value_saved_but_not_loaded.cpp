// expect: cereal needs exactly one function to save this type and one to load it
#include <brood/bind.hpp>

class HalfWay {
 public:
  explicit HalfWay(int value);
  template <class Archive>
  void save(Archive& archive) const {
    archive(value_);
  }

 private:
  int value_;
};

void refused() { brood::detail::require_sendable<HalfWay>(); }
