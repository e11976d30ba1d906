// expect: a raw pointer cannot cross to another process
#include <brood/bind.hpp>

class Holder {
 public:
  template <class Archive>
  void serialize(Archive& archive) {
    archive(pointer_);
  }

 private:
  int* pointer_ = nullptr;
};

void refused(const Holder& holder) {
  brood::detail::VectorSink sink;
  brood::detail::encode(sink, holder);
}
