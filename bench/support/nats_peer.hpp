#pragma once
// A nats-server of our own, with JetStream, and agents of this program beside it.

#include <sys/types.h>

#include <string>
#include <vector>

namespace bench {

class NatsPeer {
 public:
  NatsPeer() = default;
  NatsPeer(const NatsPeer&) = delete;
  NatsPeer& operator=(const NatsPeer&) = delete;
  ~NatsPeer();

  // Whether it runs; when there is none here, or it does not start, why_not() says so.
  bool start();
  // This program again, as an agent with one worker.
  void add_agent();
  [[nodiscard]] const std::string& url() const { return url_; }
  [[nodiscard]] const std::string& why_not() const { return why_not_; }

 private:
  pid_t pid_ = -1;
  std::vector<pid_t> agents_;
  std::string folder_;
  std::string url_;
  std::string why_not_;
};

}  // namespace bench
