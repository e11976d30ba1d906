// expect: a raw pointer cannot cross to another process
#include <brood/bind.hpp>

#include <map>
#include <string>
#include <vector>

struct Node {
  std::string name;
  std::map<int, std::vector<const Node*>> neighbours;
};

void refused() { brood::detail::require_sendable<Node>(); }
