// expect: this function takes another number of arguments
#include <brood/bind.hpp>

double half(double x);

void refused() { brood::bind(half, 1.0, 2.0); }
