#include "snapshot.hpp"

#include <algorithm>
#include <chrono>
#include <set>

#include <fmt/format.h>

#include <brood/memory/registry.hpp>

namespace brood::top {
namespace {

using detail::RecordState;
using detail::RecordWord;
using detail::Registry;
using detail::Role;
using detail::Tag;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string name_of(Role role) {
  switch (role) {
    case Role::process:
      return "process";
    case Role::worker:
      return "worker";
    case Role::watchdog:
      return "watchdog";
    case Role::root:
      return "root";
  }
  return "unknown";
}

std::string state_of(const Registry& registry, Tag tag, RecordState state) {
  if (state == RecordState::reserved) return "starting";
  if (state == RecordState::ended) return "ended";
  return registry.alive(tag) ? "live" : "dead";
}

/// The length of the UTF-8 sequence at `at`, or 0 if there is none, or a control character.
std::size_t character_at(const std::string& text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return first < ' ' || first == 127 ? 0 : 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || at + length > text.size()) return 0;
  std::uint32_t code = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i != length; ++i) {
    if ((byte(at + i) & 0xc0U) != 0x80) return 0;
    code = code << 6U | (byte(at + i) & 0x3fU);
  }
  const bool too_long = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return too_long || surrogate || code > 0x10ffff ? 0 : length;
}

/// Text from memory that anybody may write to, for terminals and as JSON.
std::string printable(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = character_at(text, at);
    out += length == 0 ? "?" : text.substr(at, length);
    at += std::max<std::size_t>(length, 1);
  }
  return out;
}

/// Nobody notes how a process was started; where it came from tells.
std::string method_of(const ProcessView& process, const std::vector<ProcessView>& family) {
  if (process.role == "root" || process.role == "watchdog" || !process.system) return {};
  if (family_variable_of(process.pid).starts_with(fmt::format("child {} ", process.tag.bits()))) {
    return "spawn";
  }
  // Whose starter lives is its child, or the child of a fork server, which may be gone.
  bool of_server = false;
  for (const ProcessView& other : family) {
    if (other.state != "live") continue;
    const bool is_parent = process.system->parent == other.pid;
    if (other.tag == process.parent) return is_parent ? "fork" : "forkserver";
    if (other.role == "watchdog" && is_parent) of_server = true;
  }
  return of_server ? "forkserver" : "fork";
}

std::vector<ProcessView> look_at_processes(detail::Segment& family, const Snapshot* before,
                                           double now) {
  Registry& registry = family.registry();
  std::vector<ProcessView> views;
  registry.for_each([&](Tag tag, const RecordWord& word) {
    const detail::Record& record = registry.record(tag);
    ProcessView view{.tag = tag,
                     .pid = record.pid.load(),
                     .name = printable(registry.name(tag)),
                     .role = name_of(static_cast<Role>(record.role)),
                     .method = {},
                     .state = state_of(registry, tag, word.state),
                     .parent = Tag::from_bits(record.parent)};
    if (view.state == "live") view.system = look_at_process(view.pid);
    const ProcessView* const old = before != nullptr ? before->find(tag) : nullptr;
    if (view.system) {
      const bool again = old != nullptr && old->system && now > before->at;
      const double since = again ? now - before->at : 0;
      const double used = view.system->cpu_seconds - (again ? old->system->cpu_seconds : 0);
      const double time = since > 0 ? since : view.system->age_seconds;
      view.cpu_percent = time > 0 ? std::max(0.0, 100 * used / time) : 0;
    }
    views.push_back(std::move(view));
  });
  for (ProcessView& view : views) view.method = method_of(view, views);
  return views;
}

void look_at_waits(detail::Segment& family, Snapshot& snapshot) {
  const auto look = [&](Tag who, Tag process) {
    const detail::WaitNote& note = family.wait_note(who);
    const std::uint64_t at = note.at.load();
    if (at == 0) return;
    const double since = static_cast<double>(note.since.load()) / 1e9;
    snapshot.waits.push_back(
        {.who = who, .process = process, .at = at, .seconds = std::max(0.0, snapshot.at - since)});
  };
  const Registry& registry = family.registry();
  for (const ProcessView& process : snapshot.processes) {
    if (process.state == "live") look(process.tag, process.tag);
  }
  registry.for_each_thread([&](Tag thread, Tag process) {
    if (registry.alive(thread)) look(thread, process);
  });

  const std::uint64_t records_begin = family.header().records_at;
  const std::uint64_t records_end = records_begin + Registry::kSlots * sizeof(detail::Record);
  for (std::size_t i = 0; i != snapshot.waits.size(); ++i) {
    Wait& wait = snapshot.waits[i];
    for (std::size_t o = 0; o != snapshot.objects.size(); ++o) {
      ObjectView& object = snapshot.objects[o];
      if (wait.at < object.payload_begin || wait.at >= object.payload_end) continue;
      wait.object = o;
      object.waits.push_back(i);
      break;
    }
    if (wait.at < records_begin || wait.at >= records_end) continue;
    const auto slot =
        static_cast<std::uint32_t>((wait.at - records_begin) / sizeof(detail::Record));
    for (const ProcessView& process : snapshot.processes) {
      if (process.tag.slot() == slot) wait.end_of = process.tag;
    }
  }
}

/// Who waits for whom, as far as one owner says it: along these a circle is a deadlock.
void find_deadlocks(Snapshot& snapshot) {
  const auto next = [&](Tag who) -> Tag {
    const Wait* const wait = snapshot.wait_of(who);
    if (wait == nullptr) return {};
    if (wait->end_of) return *wait->end_of;
    return wait->object ? snapshot.objects[*wait->object].owner : Tag();
  };
  std::set<Tag> done;
  for (const Wait& wait : snapshot.waits) {
    std::vector<Tag> path;
    for (Tag at = wait.who; !at.none() && !done.contains(at); at = next(at)) {
      if (const auto seen = std::find(path.begin(), path.end(), at); seen != path.end()) {
        snapshot.deadlocks.emplace_back(seen, path.end());
        break;
      }
      path.push_back(at);
    }
    done.insert(path.begin(), path.end());
  }
}

}  // namespace

const ProcessView* Snapshot::find(Tag process) const {
  const auto found = std::find_if(processes.begin(), processes.end(),
                                  [&](const ProcessView& view) { return view.tag == process; });
  return found == processes.end() ? nullptr : &*found;
}

const Wait* Snapshot::wait_of(Tag who) const {
  const auto found =
      std::find_if(waits.begin(), waits.end(), [&](const Wait& wait) { return wait.who == who; });
  return found == waits.end() ? nullptr : &*found;
}

const PoolView::Worker* Snapshot::worker(Tag process) const {
  for (const PoolView& pool : pools) {
    if (const PoolView::Worker* const found = pool.find(process)) return found;
  }
  return nullptr;
}

Snapshot take_snapshot(detail::Segment& family, const Snapshot* before) {
  Snapshot snapshot;
  snapshot.at = seconds_now();
  snapshot.root_pid = static_cast<int>(family.header().root_pid);
  snapshot.processes = look_at_processes(family, before, snapshot.at);
  snapshot.objects = look_at_objects(family);
  look_at_waits(family, snapshot);
  snapshot.pools = look_at_pools(family, snapshot, before);
  snapshot.memory = detail::Heap::measure(family);
  for (const auto& [tag, bytes] : snapshot.memory.held) {
    for (ProcessView& process : snapshot.processes) {
      if (process.tag == tag) process.shared_bytes += bytes;
    }
  }
  snapshot.log_level = family.header().log.level.load();
  snapshot.log_lost = family.header().log.lost.load();
  // Of locks: who waits for a queue or an event is idle.
  for (std::size_t i = 0; i != snapshot.objects.size(); ++i) {
    const ObjectView& object = snapshot.objects[i];
    const bool holds_up = object.lockable || object.permits;
    if (!holds_up || object.waits.empty()) continue;
    if (!snapshot.most_waited_for ||
        object.waits.size() > snapshot.objects[*snapshot.most_waited_for].waits.size()) {
      snapshot.most_waited_for = i;
    }
  }
  find_deadlocks(snapshot);
  return snapshot;
}

}  // namespace brood::top
