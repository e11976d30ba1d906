#pragma once
// A redis-server of our own, that listens at a Unix socket and keeps nothing.

#include <sys/types.h>

#include <string>

namespace bench {

class RedisPeer {
 public:
  RedisPeer() = default;
  RedisPeer(const RedisPeer&) = delete;
  RedisPeer& operator=(const RedisPeer&) = delete;
  ~RedisPeer();

  // Whether it runs; when there is none here, or it does not start, why_not() says so.
  bool start();
  [[nodiscard]] const std::string& socket() const { return socket_; }
  [[nodiscard]] const std::string& why_not() const { return why_not_; }

 private:
  pid_t pid_ = -1;
  std::string folder_;
  std::string socket_;
  std::string why_not_;
};

}  // namespace bench
