#pragma once

#include <gtest/gtest.h>

#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include <brood/pool.hpp>
#include <brood/register_exception.hpp>

#include "support/eventually.hpp"
#include "support/start_methods.hpp"
#include "support/temp_dir.hpp"

namespace brood::testing {

/// A test of pools, under every start method.
class PoolTest : public EveryStartMethod {
 protected:
  TempDir dir_;
};

/// An exception type of a user, who registered it.
struct BadInput : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// One of a user who did not.
struct Unregistered : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What `f` throws; null when it throws nothing.
template <class F>
std::exception_ptr thrown_by(F&& f) {
  try {
    f();
  } catch (...) {
    return std::current_exception();
  }
  return nullptr;
}
/// Its text; "" without one.
inline std::string message_of(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "not a std::exception";
  }
  return "";
}

/// The exception as an E; a failed test and an exception when it is something else.
template <class E>
E as(const std::exception_ptr& error) {
  if (!error) throw std::logic_error("nothing was thrown");
  try {
    std::rethrow_exception(error);
  } catch (const E& e) {
    return e;
  } catch (...) {
    throw std::logic_error("something else was thrown: " + message_of(error));
  }
}
template <class E>
bool is_a(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const E&) {
    return true;
  } catch (...) {
    return false;
  }
  return false;
}

inline std::vector<int> first_integers(int count) {
  std::vector<int> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(i);
  return numbers;
}

/// Whether all of a pool's workers live, without being started anew.
inline bool all_live(const Pool& pool) {
  return pool.worker_pids().size() == static_cast<std::size_t>(pool.workers());
}

}  // namespace brood::testing
