// Where a program gets to know of its cluster: options, else the environment, else what is usual.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <brood/cluster/nats_setup.hpp>
#include <brood/cluster_options.hpp>
#include <brood/errors.hpp>

namespace brood::testing::cluster_options_test {
namespace {

using namespace std::chrono_literals;
using detail::nats_setup;
using detail::NatsSetup;

/// The environment has these variables, for the time of a test, and no others of a cluster.
class Environment {
 public:
  explicit Environment(const std::vector<std::pair<std::string, std::string>>& variables) {
    for (const char* const name : kAll) ::unsetenv(name);
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const char* const name : kAll) ::unsetenv(name);
  }

 private:
  static constexpr const char* kAll[] = {"BROOD_CLUSTER_URL", "BROOD_CLUSTER_NAME",
                                         "BROOD_CLUSTER_CREDENTIALS", "BROOD_CLUSTER_CA",
                                         "BROOD_CLUSTER_LEASE"};
};

TEST(ClusterOptions, WhatIsNotGivenIsTheEnvironments) {
  const Environment environment({{"BROOD_CLUSTER_URL", "tls://client:secret@head:4333"},
                                 {"BROOD_CLUSTER_NAME", "night"},
                                 {"BROOD_CLUSTER_CREDENTIALS", "/etc/creds"},
                                 {"BROOD_CLUSTER_CA", "/etc/ca.pem"},
                                 {"BROOD_CLUSTER_LEASE", "3"}});
  const NatsSetup setup = nats_setup({});
  EXPECT_EQ(setup.url, "tls://client:secret@head:4333");
  EXPECT_EQ(setup.name, "night");
  EXPECT_EQ(setup.credentials, "/etc/creds");
  EXPECT_EQ(setup.ca_file, "/etc/ca.pem");
  EXPECT_EQ(setup.lease, 3s);
}

TEST(ClusterOptions, WhatIsGivenCounts) {
  const Environment environment({{"BROOD_CLUSTER_URL", "nats://elsewhere:1"},
                                 {"BROOD_CLUSTER_NAME", "night"},
                                 {"BROOD_CLUSTER_CREDENTIALS", "/etc/creds"},
                                 {"BROOD_CLUSTER_CA", "/etc/ca.pem"},
                                 {"BROOD_CLUSTER_LEASE", "3"}});
  const NatsSetup setup = nats_setup({.url = "nats://here:2",
                                      .name = "day",
                                      .credentials = "mine",
                                      .ca_file = "my.pem",
                                      .lease = 4s});
  EXPECT_EQ(setup.url, "nats://here:2");
  EXPECT_EQ(setup.name, "day");
  EXPECT_EQ(setup.credentials, "mine");
  EXPECT_EQ(setup.ca_file, "my.pem");
  EXPECT_EQ(setup.lease, 4s);
}

TEST(ClusterOptions, WithoutEitherItIsWhatIsUsual) {
  const Environment environment({});
  const NatsSetup setup = nats_setup({});
  EXPECT_EQ(setup.url, "nats://127.0.0.1:4222");
  EXPECT_EQ(setup.name, "brood");
  EXPECT_EQ(setup.credentials, "");
  EXPECT_EQ(setup.ca_file, "");
  EXPECT_EQ(setup.lease, 15s);
}

TEST(ClusterOptions, AnEnvironmentThatMakesNoSenseIsRefused) {
  for (const auto& variable :
       std::vector<std::pair<std::string, std::string>>{{"BROOD_CLUSTER_LEASE", "soon"},
                                                        {"BROOD_CLUSTER_LEASE", "0"},
                                                        {"BROOD_CLUSTER_NAME", "a b"},
                                                        {"BROOD_CLUSTER_URL", ","}}) {
    const Environment environment({variable});
    EXPECT_THROW(static_cast<void>(nats_setup({})), ArgumentError)
        << variable.first << '=' << variable.second;
  }
}

TEST(ClusterOptions, PasswordsAreNotShown) {
  const auto shown = [](const std::string& url) {
    return detail::shown_url({.url = url, .name = {}, .credentials = {}, .ca_file = {}});
  };
  EXPECT_EQ(shown("nats://user:secret@head:4222"), "nats://head:4222");
  EXPECT_EQ(shown("nats://a:1,tls://user:se@cret@b:2,token@c:3"), "nats://a:1,tls://b:2,c:3");
  EXPECT_EQ(shown("nats://head:4222"), "nats://head:4222");
}

}  // namespace
}  // namespace brood::testing::cluster_options_test
