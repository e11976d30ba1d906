// What the parts of the simulated cluster share. Private to the simulation.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <cluster_model.hpp>
#include <timeline.hpp>

namespace brood::simulation {

/// The tasks of a message, by number.
using Lot = std::shared_ptr<const std::vector<std::uint32_t>>;

/// A message on its way.
struct Parcel {
  Lot lot;
  std::uint64_t id = 0;     // the server's, of a message of tasks
  std::uint32_t times = 0;  // that it was handed out
  bool given_up = false;    // results: that the tasks are lost
};

/// Parcels by numbers, as actions hold plain values only.
class Parcels {
 public:
  std::uint32_t put(Parcel parcel) {
    if (free_.empty()) {
      parcels_.push_back(std::move(parcel));
      return static_cast<std::uint32_t>(parcels_.size() - 1);
    }
    const std::uint32_t at = free_.back();
    free_.pop_back();
    parcels_[at] = std::move(parcel);
    return at;
  }
  Parcel take(std::uint32_t at) {
    free_.push_back(at);
    return std::exchange(parcels_[at], {});
  }

 private:
  std::vector<Parcel> parcels_;
  std::vector<std::uint32_t> free_;
};

/// Bytes of messages, as the library encodes and signs them, with what the server adds.
struct Sizes {
  explicit Sizes(const ClusterModel& model);
  std::uint64_t task_message, task;
  std::uint64_t result_message, result;
  std::uint64_t beat, note;
  static constexpr std::uint64_t kEnvelope = 100;  // subject, where to answer, headers: about
  static constexpr std::uint64_t kSmall = 150;     // a confirmation, a request, an end of a lease
  static constexpr std::uint64_t kInfo = 800;      // what a consumer has, as JSON
};

struct World {
  explicit World(const ClusterModel& m) : model(m), sizes(m), random(m.seed) {}

  const ClusterModel& model;
  const Sizes sizes;
  Timeline timeline;
  Parcels parcels;
  std::mt19937_64 random;
  ClusterOutcome outcome;
  bool over = false;  // all tasks have ended: nothing fails any more

  [[nodiscard]] Time now() const { return timeline.now(); }
  [[nodiscard]] double chance() { return std::uniform_real_distribution<double>(0, 1)(random); }
  [[nodiscard]] Duration exponential(Duration mean) {
    const double seconds = std::chrono::duration<double>(mean).count();
    const double drawn = std::exponential_distribution<double>(1 / seconds)(random);
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(drawn));
  }
  /// The same wherever and as often as it runs.
  [[nodiscard]] Duration duration_of(std::uint32_t task) const;
  Second& second() {
    const auto at = static_cast<std::size_t>(now() / std::chrono::seconds(1));
    if (outcome.seconds.size() <= at) outcome.seconds.resize(at + 1);
    return outcome.seconds[at];
  }
};

inline double in_seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace brood::simulation
