#include <brood/cluster/cluster_place.hpp>

#include <map>
#include <mutex>
#include <utility>

#include <brood/platform/program.hpp>

namespace brood::detail {
namespace {

std::string variable(const char* name, std::string otherwise = {}) {
  return environment_variable(name).value_or(std::move(otherwise));
}

struct Known {
  std::mutex mutex;
  std::map<std::pair<std::string, std::string>, ClusterPlace> places;  // by URL and cluster
};
Known& known() {
  static Known instance;
  return instance;
}

}  // namespace

ClusterPlace place_of(ClusterOptions options) {
  if (options.key.empty()) options.key = variable("BROOD_CLUSTER_KEY");
  ClusterPlace place{.nats = nats_setup(options), .key = options.key, .patience = options.patience};
  const PlaceName name = name_of(place);
  const std::scoped_lock lock(known().mutex);
  known().places[{name.url, name.cluster}] = place;
  return place;
}

PlaceName name_of(const ClusterPlace& place) {
  return {.url = shown_url(place.nats),
          .cluster = place.nats.name,
          .credentials = place.nats.credentials,
          .ca_file = place.nats.ca_file,
          .lease = place.nats.lease.count(),
          .patience = place.patience.count()};
}

ClusterPlace find_place(const PlaceName& name) {
  {
    const std::scoped_lock lock(known().mutex);
    const auto found = known().places.find({name.url, name.cluster});
    if (found != known().places.end()) return found->second;
  }
  ClusterPlace place{.nats = {.url = name.url,
                              .name = name.cluster,
                              .credentials = name.credentials,
                              .ca_file = name.ca_file,
                              .lease = std::chrono::nanoseconds(name.lease)},
                     .key = variable("BROOD_CLUSTER_KEY"),
                     .patience = std::chrono::nanoseconds(name.patience)};
  const std::string url = variable("BROOD_CLUSTER_URL");
  if (!url.empty() && variable("BROOD_CLUSTER_NAME", "brood") == name.cluster) {
    // The same server may have another name here, and wants what it wants of this machine.
    place.nats.url = url;
    place.nats.credentials = variable("BROOD_CLUSTER_CREDENTIALS");
    place.nats.ca_file = variable("BROOD_CLUSTER_CA");
  }
  return place;
}

}  // namespace brood::detail
