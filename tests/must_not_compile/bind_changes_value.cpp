// expect: a parameter by non-const reference cannot be changed from another process
#include <brood/bind.hpp>

#include <vector>

void append(std::vector<int>& numbers, int n);

void refused() { brood::bind(append, std::vector<int>()); }
