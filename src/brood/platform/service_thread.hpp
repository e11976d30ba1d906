#pragma once

#include <functional>
#include <thread>

namespace brood::detail {

/// A thread that serves the library for as long as it is needed, and that a fork need not fear:
/// signals of the process never interrupt it, it is not counted among the program's own threads,
/// and it stands still, with nothing locked, while the process forks (see ServicePause).
///
/// Made, joined and destroyed by one thread. In a forked copy the thread is not there: abandon()
/// it. Throws SystemError when there can be no more threads.
class ServiceThread {
 public:
  explicit ServiceThread(std::function<void()> body);
  ServiceThread(const ServiceThread&) = delete;
  ServiceThread& operator=(const ServiceThread&) = delete;
  /// Joins; from the thread itself it lets it go on to its end.
  ~ServiceThread();

  /// In a forked copy: forgets it.
  void abandon() noexcept;

  /// How many of this process's threads are such.
  static int count() noexcept;
  /// The caller is one.
  static bool here() noexcept;

 private:
  std::thread thread_;
};

/// Held by a service thread whenever it does anything but sleep. Locks that others hold while they
/// fork are taken before it.
class ServiceWork {
 public:
  ServiceWork();
  ServiceWork(const ServiceWork&) = delete;
  ServiceWork& operator=(const ServiceWork&) = delete;
  ~ServiceWork();
};

/// While it lives, all service threads sleep or wait for its end. Around a fork; in the child say
/// `in_child()` first of all.
class ServicePause {
 public:
  ServicePause();
  ServicePause(const ServicePause&) = delete;
  ServicePause& operator=(const ServicePause&) = delete;
  ~ServicePause();
  /// The child is a process without service threads.
  void in_child() noexcept;
};

}  // namespace brood::detail
