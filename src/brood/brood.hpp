// Layer: all
// All of Brood.
#pragma once

#include <brood/array.hpp>
#include <brood/bind.hpp>
#include <brood/bytewise.hpp>
#include <brood/connection.hpp>
#include <brood/cpu_count.hpp>
#include <brood/descriptor.hpp>
#include <brood/errors.hpp>
#include <brood/event.hpp>
#include <brood/future.hpp>
#include <brood/guarded.hpp>
#include <brood/joinable_queue.hpp>
#include <brood/lease.hpp>
#include <brood/lock.hpp>
#include <brood/outcome.hpp>
#include <brood/pool.hpp>
#include <brood/pool_options.hpp>
#include <brood/process.hpp>
#include <brood/queue.hpp>
#include <brood/ready_descriptor.hpp>
#include <brood/register_exception.hpp>
#include <brood/runtime.hpp>
#include <brood/semaphore.hpp>
#include <brood/shareable_list.hpp>
#include <brood/shared_array.hpp>
#include <brood/shared_memory.hpp>
#include <brood/shared_memory_info.hpp>
#include <brood/simple_queue.hpp>
#include <brood/start_method.hpp>
#include <brood/value.hpp>
#include <brood/wait.hpp>
