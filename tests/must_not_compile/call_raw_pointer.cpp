// expect: a raw pointer cannot cross to another process
#include <brood/bind.hpp>

double first(const double* numbers);

void refused(double* numbers) {
  brood::detail::require_callable<decltype(first), decltype(numbers)>();
}
