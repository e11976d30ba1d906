// expect: a raw pointer cannot cross to another process
#include <brood/bind.hpp>

double at(const double* numbers, int index);

void refused(const double* numbers) { brood::bind(at, numbers); }
