// expect: this type cannot be serialised: give it a serialize() function as for cereal
#include <brood/bind.hpp>

#include <string>
#include <vector>

class Person {
 public:
  explicit Person(std::string name);

 private:
  std::string name_;
};

void refused(const std::vector<Person>& people) {
  brood::detail::VectorSink sink;
  brood::detail::encode(sink, people);
}
