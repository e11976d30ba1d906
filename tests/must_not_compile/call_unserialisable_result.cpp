// expect: this type cannot be serialised: give it a serialize() function as for cereal
#include <brood/bind.hpp>

#include <vector>

class Mesh {
 public:
  explicit Mesh(int size);

 private:
  int size_;
};
std::vector<Mesh> meshes(int count);

void refused() { brood::detail::require_callable<decltype(meshes), int>(); }
