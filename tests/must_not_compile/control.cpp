// compiles
// The control: what is right compiles under the same driver and flags, so the refusals around it
// are refusals of what each file does wrong.
#include <brood/brood.hpp>

#include <string>
#include <vector>

namespace {

struct Sighting {
  std::string species;
  std::vector<double> weights;
};

double heaviest(const Sighting& sighting) {
  double most = 0.0;
  for (double weight : sighting.weights) most = weight > most ? weight : most;
  return most;
}

}  // namespace

double control(brood::Pool& pool, const std::vector<Sighting>& sightings) {
  double sum = 0.0;
  for (double weight : pool.map(heaviest, sightings)) sum += weight;
  for (int square : pool.map([](int n) { return n * n; }, std::vector<int>{1, 2, 3})) sum += square;
  return sum;
}
