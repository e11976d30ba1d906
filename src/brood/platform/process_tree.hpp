// Layer: platform
// A process and all that descends from it, ended together.
#pragma once

#include <unordered_set>
#include <utility>
#include <vector>

#include <brood/platform/deadline.hpp>
#include <brood/platform/process_handle.hpp>

namespace brood::detail {

/// From now on a process whose parent ends becomes this process's child, if it descends from this
/// one: nobody gets out of the tree by ending its parent, as daemons do. This process's children
/// then are more than those that it started, and what ends among them stays a zombie until it is
/// waited for or this process ends. Not inherited by fork.
void adopt_orphans() noexcept;

/// The ids of a process's children, zombies included; empty when there is no such process, or no
/// /proc. May miss some while the process forks or its children end.
std::vector<int> children_of(int pid);
/// The same from a look at every process there is, as older kernels need it.
std::vector<int> children_of_by_search(int pid);

/// Ends a process with all its descendants, in two steps: they are asked, then killed.
///
///     TreeKill kill(child.sentinel());
///     if (kill.asked_any()) kill.obeyed(Deadline::after(grace));
///     kill.finish();
///
/// Descendants are found through /proc while the whole tree is stopped, again and again until
/// nobody is new, so a process that forks as fast as it can does not get away. Each is held by a
/// descriptor and never confused with another process of the same id. Those whose parent has ended
/// are found if the process adopts orphans (adopt_orphans) and lives until finish().
///
/// The caller may be any process that may signal these; it need not be their parent, and waits for
/// none of them: zombies are their parents' to reap. If the caller descends from the process
/// itself, it is spared. One thread uses an object at a time; several may kill the same tree at
/// once. If the caller dies in between, the tree is left as it is then, possibly stopped: whoever
/// comes next stops, and kills, it anew.
///
/// Not reached: processes of other users, and where there is no /proc, all but the process itself.
class TreeKill {
 public:
  /// Stops the tree, sends SIGTERM to those who can make use of it and lets these go on:
  /// descendants, and the process itself if it has a handler for it. A process without one would
  /// just die, and those that it has adopted would get away; it stays stopped until finish().
  /// `process`: a pidfd; it is copied. Nothing happens when that process has ended. Throws
  /// SystemError when there is no descriptor left, std::bad_alloc.
  explicit TreeKill(int process);
  explicit TreeKill(const ProcessHandle& process) : TreeKill(process.descriptor()) {}
  TreeKill(TreeKill&& other) noexcept
      : members_(std::move(other.members_)), live_(std::exchange(other.live_, false)) {}
  TreeKill(const TreeKill&) = delete;
  TreeKill& operator=(const TreeKill&) = delete;
  TreeKill& operator=(TreeKill&&) = delete;
  /// Finishes.
  ~TreeKill() { finish(); }

  /// Whether anybody has been sent SIGTERM. If not, a grace would be time wasted.
  [[nodiscard]] bool asked_any() const;
  /// Waits until all that were asked have ended; false at the deadline.
  [[nodiscard]] bool obeyed(Deadline deadline) const;
  /// Stops the tree again, kills everybody in it, those who came meanwhile too, and the process
  /// itself last. They have got SIGKILL when it returns and will not fork again; it does not wait
  /// for those whom the kernel cannot end at once. Once is enough.
  void finish() noexcept;

 private:
  struct Member {
    ProcessHandle process;
    int pid = 0;
    bool asked = false;
  };

  void collect();
  bool find_more();
  bool add(int pid, int parent);
  [[nodiscard]] bool settled() const;
  void kill_descendants() const noexcept;
  void kill_all() noexcept;

  std::vector<Member> members_;      // the process itself first
  std::unordered_set<int> zombies_;  // seen while the tree is being stopped
  bool live_ = true;
};

}  // namespace brood::detail
