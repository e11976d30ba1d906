#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <brood/channel/thunk.hpp>
#include <brood/memory/object_kind.hpp>
#include <brood/memory/objects.hpp>
#include <brood/memory/tag.hpp>

namespace brood::detail {

/// Who may write to a slot and what happens next; the table is in docs/design/manager.md.
enum class CallState : std::uint8_t {
  free = 0,
  open,       ///< a process has it, for calls to come
  called,     ///< the server's turn
  answered,   ///< the caller's turn
  abandoned,  ///< called, and nobody wants the result
  cancelled,  ///< the same, and the method need not be begun
};

/// State of a slot and the process that has it, in one word.
struct CallWord {
  CallState state = CallState::free;
  Tag tag;

  [[nodiscard]] constexpr std::uint32_t pack() const {
    return tag.bits() | static_cast<std::uint32_t>(state) << Tag::kBits;
  }
  static constexpr CallWord unpack(std::uint32_t word) {
    return {.state = static_cast<CallState>(word >> Tag::kBits & 7U), .tag = Tag::from_bits(word)};
  }
  [[nodiscard]] constexpr bool servers_turn() const {
    return state == CallState::called || state == CallState::abandoned ||
           state == CallState::cancelled;
  }
};
static_assert(Tag::kBits <= 28);

/// What became of a call.
enum class CallOutcome : std::uint32_t {
  value = 1,  ///< the bytes are the result's
  error,      ///< the bytes are an ErrorRecord's
  no_memory,  ///< failed, and there was no memory left to say why
};

/// One call at a time: what its caller and the server's thread write to each other. Only whose turn
/// it is, by `word`, touches the rest but the first line.
struct alignas(64) CallSlot {
  static constexpr std::size_t kInlineRequest = 192;
  static constexpr std::size_t kInlineReply = 176;
  enum Served : std::uint32_t { kNotYet = 0, kByThread = 1, kRefused = 2 };

  std::atomic<std::uint32_t> word;  // CallWord; both sides sleep on it
  std::atomic<std::uint32_t> caller_sleeps;
  std::atomic<std::uint32_t> server_sleeps;
  std::atomic<std::uint32_t> served;  // Served: whether the server has a thread for it
  std::uint32_t wants_notice;         // 1: it has something to let go of when the reply was read
  CallOutcome outcome;
  FunctionId function;       // a thunk of kind `call`
  std::uint64_t object;      // its number; 0: none
  std::uint64_t request_at;  // offset in the segment; 0: inline
  std::uint64_t request_bytes;
  alignas(64) std::array<std::byte, kInlineRequest> request;
  alignas(64) std::uint64_t reply_at;  // offset in the segment; 0: inline
  std::uint64_t reply_bytes;
  std::array<std::byte, kInlineReply> reply;
};
static_assert(sizeof(CallSlot) == 448 && offsetof(CallSlot, request) == 64);

/// What a manager is in shared memory.
struct CallBoard {
  static constexpr std::uint32_t kSlots = 1024;

  enum State : std::uint32_t { kStarting = 0, kServing = 1, kFailed = 2 };
  std::atomic<std::uint32_t> server;  // its tag, before it is serving
  std::atomic<std::uint32_t> state;   // State; who starts it sleeps on it
  std::atomic<std::uint32_t> stop;    // 1: it was told to end
  /// Grows when a slot has been taken that no thread serves; the server sleeps on it.
  alignas(64) std::atomic<std::uint32_t> bell;
  std::atomic<std::uint32_t> high;  // slots at or above it were never taken
  alignas(64) std::array<CallSlot, kSlots> slots;
};

/// The payload of the shared object that an object of a server is.
struct ManagedPayload {
  ObjectRef board;
  std::uint64_t number;
  std::uint64_t reserved;
};
static_assert(sizeof(ManagedPayload) <= ObjectEntry<>::kInlineBytes);

constexpr ObjectType kBoardType = object_type<CallBoard>(ObjectKind::manager);

}  // namespace brood::detail
