#pragma once

#include <vector>

#include <brood/lock.hpp>
#include <brood/value.hpp>

#define TASKS_API __attribute__((visibility("default")))

/// Twice each, computed by processes that this library starts.
TASKS_API std::vector<int> doubled(const std::vector<int>& numbers);
/// A task of this library.
TASKS_API int halved(int n);
/// Throws what the program catches.
TASKS_API int refused(int n);
/// Adds one, under a lock that the program made.
TASKS_API void add_one(brood::Lock lock, brood::Value<int> value);
