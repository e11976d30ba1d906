// Layer: process
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace brood {

/// How a process comes into being.
///
/// | method     | the child begins as                    | cost    | refuses                      |
/// | ---------- | -------------------------------------- | ------- | ---------------------------- |
/// | forkserver | a copy of this program as it was when  | least   | without a Runtime            |
/// |            | `Runtime` was constructed              |         |                              |
/// | fork       | a copy of this process as it is now    | grows   | while other threads run: they|
/// |            |                                        | with it | would be missing in the copy |
/// | spawn      | this program, executed again           | most    | without a Runtime            |
enum class StartMethod : std::uint8_t { forkserver, fork, spawn };

/// "forkserver", "fork" or "spawn".
std::string to_string(StartMethod method);
/// The method of that name. Throws StateError for any other.
StartMethod start_method_from(const std::string& name);

/// The methods that this platform has, the default first.
std::vector<StartMethod> get_all_start_methods();

/// The method for processes and pools which do not ask for one: what set_start_method said last in
/// this process or, before it was started, in its parent; else forkserver with a Runtime and fork
/// without. Any thread may call both at once.
StartMethod get_start_method();
void set_start_method(StartMethod method);

}  // namespace brood
