#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include <brood/memory/tag.hpp>
#include <brood/platform/deadline.hpp>
#include <brood/platform/poller.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood::detail {

class Family;

/// Watches the processes of a family: notes and announces deaths, ends those that must not outlive
/// their parent, takes back the memory of the dead, and kills everybody when the root is gone.
///
/// Runs in one thread of one process. All it does is idempotent: it may be killed anywhere and
/// another goes on. It waits only for facts of the kernel (pidfd), never for a time to pass; one
/// that follows another also looks around once a second, for those of whom it was not told.
class Watchdog {
 public:
  /// `follows`: another one was there before, to which members still send what it should know.
  explicit Watchdog(Family& family, bool follows = false);

  /// To be told about other descriptors in wait() too.
  [[nodiscard]] Poller& poller() { return poller_; }
  /// Keys of what happened; those which are not the caller's go to handle().
  std::vector<std::uint64_t> wait();
  void handle(std::uint64_t key);

  /// Watches one more process.
  void watch(Tag tag, ProcessHandle process);
  /// The same for a child of this process, which it reaps. If another process joins the family as
  /// `tag` (see launch_by_forkserver), this child's end is not the member's.
  void watch_child(Tag tag, ProcessHandle process, int pid);

  [[nodiscard]] bool root_is_gone() const { return root_gone_; }
  /// Ends every member but the root and this process, and returns when they are gone.
  void kill_family();
  /// Ends other watchdogs and guardians, whom this process follows.
  void end_others();
  /// In a fork of the watchdog: lets go of what is the watchdog's.
  void abandon();

 private:
  struct Watched {
    ProcessHandle process;
    int child_pid = 0;  // 0: not this process's to reap
  };

  void look_around();
  void find_forgotten();
  void add_pending(Tag dead);
  void note_end(Tag tag, Watched& watched);
  /// Watches a live member that nobody watches; false when it is not alive any more.
  bool adopt(Tag tag);
  /// What has to be done because `dead` is gone. False while its memory may still be in use.
  bool clean_up_after(Tag dead);
  void clean_up_pending();

  Family& family_;
  Poller poller_;
  std::map<std::uint32_t, Watched> watched_;
  ProcessHandle root_;
  bool root_gone_ = false;
  Deadline next_look_;
  std::vector<Tag> pending_;    // dead, with memory that somebody may still use
  std::vector<Tag> unwatched_;  // the same, found by clean_up_after() in what the dead had started
};

}  // namespace brood::detail
