#include "report.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include <brood/log.hpp>

namespace brood::top {
namespace {

using detail::Tag;

/// Writes JSON from left to right; commas come by themselves.
class Json {
 public:
  Json& begin(char bracket) {
    comma();
    text_ += bracket;
    first_ = true;
    return *this;
  }
  Json& end(char bracket) {
    text_ += bracket;
    first_ = false;
    return *this;
  }
  Json& key(std::string_view name) {
    comma();
    quote(name);
    text_ += ':';
    first_ = true;
    return *this;
  }
  void value(std::string_view text) {
    comma();
    quote(text);
  }
  void value(const char* text) { value(std::string_view(text)); }
  void value(const std::string& text) { value(std::string_view(text)); }
  void value(bool yes) { plain(yes ? "true" : "false"); }
  void value(double number) { plain(fmt::format("{:.3f}", number)); }
  template <std::integral T>
  void value(T number) {
    plain(fmt::format("{}", number));
  }
  void null() { plain("null"); }
  template <class T>
  Json& member(std::string_view name, const T& what) {
    key(name).value(what);
    return *this;
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  void comma() {
    if (!std::exchange(first_, false)) text_ += ',';
  }
  void plain(std::string_view text) {
    comma();
    text_ += text;
  }
  void quote(std::string_view text) {
    text_ += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') text_ += '\\';
      if (static_cast<unsigned char>(c) < ' ') {
        text_ += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }

  std::string text_;
  bool first_ = true;
};

// ---- What both say
// -------------------------------------------------------------------------------

std::string label(const Snapshot& snapshot, Tag who) {
  const ProcessView* process = snapshot.find(who);
  if (process != nullptr) return fmt::format("{} ({})", process->name, process->pid);
  for (const Wait& wait : snapshot.waits) {
    if (wait.who == who && wait.process != who) {
      return "a thread of " + label(snapshot, wait.process);
    }
  }
  return who.is_process() ? "a process that is gone" : "a thread";
}

std::string label(const ObjectView& object) {
  if (object.is_log) return fmt::format("queue #{} (the log)", object.index);
  return fmt::format("{} #{}", object.kind, object.index);
}

std::string time_text(double seconds) {
  if (seconds < 100) return fmt::format("{:.1f}s", seconds);
  if (seconds < 6000) return fmt::format("{:.0f}m", seconds / 60);
  return fmt::format("{:.0f}h", seconds / 3600);
}

/// What a worker computes; empty: nothing.
std::string computing(const Snapshot& snapshot, Tag process) {
  const PoolView::Worker* const worker = snapshot.worker(process);
  if (worker == nullptr || worker->doing != "computes") return {};
  std::string text = worker->item ? fmt::format("item {}", *worker->item) : "a task";
  if (worker->seconds) {
    text += (worker->at_least ? " for more than " : " for ") + time_text(*worker->seconds);
  }
  return text;
}

/// What a process's first thread is at: {what, since when}.
std::pair<std::string, std::optional<double>> doing(const Snapshot& snapshot,
                                                    const ProcessView& process) {
  if (process.state != "live") return {process.state, std::nullopt};
  if (process.system && (process.system->state == 'T' || process.system->state == 't')) {
    return {"stopped", std::nullopt};
  }
  const Wait* const wait = snapshot.wait_of(process.tag);
  if (wait == nullptr) {
    const bool runs = process.system && process.system->state == 'R';
    return {runs ? "runs" : "sleeps in the system", std::nullopt};
  }
  if (wait->end_of)
    return {"waits for the end of " + label(snapshot, *wait->end_of), wait->seconds};
  if (wait->object) return {"waits for " + label(snapshot.objects[*wait->object]), wait->seconds};
  return {process.role == "worker" ? "idle" : "waits", wait->seconds};
}

std::string verdict(const Snapshot& snapshot) {
  std::string text;
  for (const std::vector<Tag>& circle : snapshot.deadlocks) {
    text += "DEADLOCK:";
    for (const Tag who : circle) {
      const Wait* const wait = snapshot.wait_of(who);
      text += fmt::format(" {} waits for {};", label(snapshot, who),
                          wait != nullptr && wait->object ? label(snapshot.objects[*wait->object])
                                                          : std::string("the end of the next"));
    }
    text += '\n';
  }
  if (snapshot.most_waited_for) {
    const ObjectView& object = snapshot.objects[*snapshot.most_waited_for];
    text += fmt::format("{} waiting for {}, which {}\n", object.waits.size(), label(object),
                        object.owner.none() ? std::string("nobody holds alone")
                                            : label(snapshot, object.owner) + " holds");
    const Wait* const own = object.owner.none() ? nullptr : snapshot.wait_of(object.owner);
    if (own != nullptr && own->object) {
      text += fmt::format("    and waits for {} itself\n", label(snapshot.objects[*own->object]));
    }
  }
  return text;
}

// ---- JSON
// ----------------------------------------------------------------------------------------

void put_party(Json& json, const Snapshot& snapshot, Tag who) {
  const Wait* const wait = snapshot.wait_of(who);
  const Tag owner = wait != nullptr ? wait->process : who;
  const ProcessView* const process = snapshot.find(owner);
  json.begin('{').member("tag", who.bits());
  json.key("pid");
  process != nullptr ? json.value(process->pid) : json.null();
  json.key("name");
  process != nullptr ? json.value(process->name) : json.null();
  json.member("thread", !who.is_process());
}

void put_process(Json& json, const Snapshot& snapshot, const ProcessView& process) {
  json.begin('{')
      .member("tag", process.tag.bits())
      .member("pid", process.pid)
      .member("name", process.name)
      .member("role", process.role)
      .member("state", process.state);
  json.key("start_method");
  process.method.empty() ? json.null() : json.value(process.method);
  const ProcessView* const parent = snapshot.find(process.parent);
  json.key("parent_pid");
  parent != nullptr ? json.value(parent->pid) : json.null();
  if (process.system) {
    json.member("system_state", std::string(1, process.system->state))
        .member("threads", process.system->threads)
        .member("cpu_seconds", process.system->cpu_seconds)
        .member("cpu_percent", process.cpu_percent)
        .member("age_seconds", process.system->age_seconds)
        .member("resident_bytes", process.system->resident_bytes);
  }
  json.member("shared_bytes", process.shared_bytes);
  const auto [what, seconds] = doing(snapshot, process);
  json.member("doing", what).key("doing_seconds");
  seconds ? json.value(*seconds) : json.null();
  const Wait* const wait = snapshot.wait_of(process.tag);
  json.key("waits_for_object");
  wait != nullptr && wait->object ? json.value(snapshot.objects[*wait->object].index) : json.null();
  json.end('}');
}

void put_pool(Json& json, const Snapshot& snapshot, const PoolView& pool) {
  json.begin('{').member("name", pool.name).key("owner");
  put_party(json, snapshot, pool.owner);
  json.end('}').member("items", pool.items).key("items_per_second");
  pool.per_second ? json.value(*pool.per_second) : json.null();
  json.key("workers").begin('[');
  for (const PoolView::Worker& worker : pool.workers) {
    const ProcessView* const process = snapshot.find(worker.process);
    json.begin('{')
        .member("pid", process != nullptr ? process->pid : 0)
        .member("slot", worker.slot)
        .member("doing", worker.doing)
        .key("item");
    worker.item ? json.value(*worker.item) : json.null();
    json.key("seconds");
    worker.seconds ? json.value(*worker.seconds) : json.null();
    json.member("seconds_at_least", worker.at_least)
        .member("items", worker.items)
        .key("busy_percent");
    worker.busy_percent ? json.value(*worker.busy_percent) : json.null();
    json.end('}');
  }
  json.end(']').key("jobs").begin('[');
  for (const PoolView::Job& job : pool.jobs) {
    json.begin('{')
        .member("kind", job.is_map ? "map" : "tasks")
        .member("items", job.items)
        .member("left", job.left)
        .member("priority", job.priority)
        .end('}');
  }
  json.end(']').end('}');
}

void put_object(Json& json, const Snapshot& snapshot, const ObjectView& object) {
  json.begin('{')
      .member("index", object.index)
      .member("kind", object.kind)
      .member("bytes", object.bytes)
      .member("processes", object.holders);
  if (object.lockable) {
    json.key("holder");
    if (object.owner.none()) {
      json.null();
    } else {
      put_party(json, snapshot, object.owner);
      json.end('}');
    }
    json.member("owner_died", object.owner_died);
  }
  if (object.readers) json.member("readers", *object.readers);
  if (object.permits)
    json.member("permits", *object.permits).member("capacity", object.capacity.value_or(0));
  if (object.set) json.member("set", *object.set);
  if (object.depth) {
    json.member("depth", *object.depth)
        .member("maxsize", object.maxsize)
        .member("closed", object.closed)
        .member("log", object.is_log);
  }
  json.key("waiters").begin('[');
  for (const std::size_t i : object.waits) {
    put_party(json, snapshot, snapshot.waits[i].who);
    json.member("seconds", snapshot.waits[i].seconds).end('}');
  }
  json.end(']').end('}');
}

// ---- Text
// ----------------------------------------------------------------------------------------

/// The first columns of it, in whole characters.
std::string clipped(const std::string& text, std::size_t columns) {
  std::size_t end = std::min(columns, text.size());
  while (end != 0 && end != text.size() && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80)
    --end;
  return text.substr(0, end);
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::uint64_t kKiB = 1024;
  if (bytes < 10 * kKiB) return fmt::format("{}", bytes);
  if (bytes < 10 * kKiB * kKiB) return fmt::format("{}K", bytes / kKiB);
  if (bytes < 10 * kKiB * kKiB * kKiB) return fmt::format("{}M", bytes / kKiB / kKiB);
  return fmt::format("{}G", bytes / kKiB / kKiB / kKiB);
}

std::string pool_text(const Snapshot& snapshot, const PoolView& pool) {
  std::string text = fmt::format("pool {} of {}: {} workers, {} items computed", pool.name,
                                 label(snapshot, pool.owner), pool.workers.size(), pool.items);
  if (pool.per_second) text += fmt::format(", {:.0f} a second", *pool.per_second);
  for (const PoolView::Job& job : pool.jobs) {
    text += job.is_map ? fmt::format("; a map, {} of {} left", job.left, job.items)
                       : fmt::format("; tasks, {} left", job.left);
    if (job.priority != 0) text += fmt::format(", priority {}", job.priority);
  }
  return text;
}

std::string object_text(const Snapshot& snapshot, const ObjectView& object) {
  std::string text = fmt::format("{:<22}", label(object));
  if (object.depth) {
    text += fmt::format(" {} in it", *object.depth);
    if (object.maxsize != 0) text += fmt::format(" of {}", object.maxsize);
    if (object.closed) text += ", closed";
  } else if (object.lockable && !object.owner.none()) {
    text += " held by " + label(snapshot, object.owner);
  } else if (object.permits) {
    text += fmt::format(" {} permits of {}", *object.permits, object.capacity.value_or(0));
  } else if (object.set) {
    text += *object.set ? " set" : " not set";
  } else if (object.lockable) {
    text += " free";
  }
  if (object.readers.value_or(0) != 0) text += fmt::format(", {} share it", *object.readers);
  if (object.owner_died) text += ", its owner died";
  for (const std::size_t i : object.waits) {
    const Wait& wait = snapshot.waits[i];
    text += fmt::format("{} {} {}", i == object.waits.front() ? "; waiting:" : ",",
                        label(snapshot, wait.who), time_text(wait.seconds));
  }
  return text;
}

}  // namespace

std::string as_json(const Snapshot& snapshot) {
  Json json;
  json.begin('{').member("root_pid", snapshot.root_pid);
  json.key("processes").begin('[');
  for (const ProcessView& process : snapshot.processes) put_process(json, snapshot, process);
  json.end(']').key("objects").begin('[');
  for (const ObjectView& object : snapshot.objects) put_object(json, snapshot, object);
  json.end(']').key("pools").begin('[');
  for (const PoolView& pool : snapshot.pools) put_pool(json, snapshot, pool);
  json.end(']').key("memory").begin('{');
  json.member("total_bytes", snapshot.memory.total)
      .member("used_bytes", snapshot.memory.total - snapshot.memory.free)
      .member("free_bytes", snapshot.memory.free)
      .member("objects_bytes", snapshot.memory.shared)
      .end('}');
  json.key("log").begin('{');
  json.member("level", log::to_string(static_cast<log::Level>(std::min(snapshot.log_level, 6U))))
      .member("lost", snapshot.log_lost)
      .end('}');
  json.key("most_waited_for");
  snapshot.most_waited_for ? json.value(snapshot.objects[*snapshot.most_waited_for].index)
                           : json.null();
  json.key("deadlocks").begin('[');
  for (const std::vector<Tag>& circle : snapshot.deadlocks) {
    json.begin('[');
    for (const Tag who : circle) {
      put_party(json, snapshot, who);
      json.end('}');
    }
    json.end(']');
  }
  json.end(']').end('}');
  return json.take() + "\n";
}

std::string as_text(const Snapshot& snapshot, std::size_t width) {
  std::vector<std::string> lines;
  const auto live = std::count_if(snapshot.processes.begin(), snapshot.processes.end(),
                                  [](const ProcessView& p) { return p.state == "live"; });
  const auto workers =
      std::count_if(snapshot.processes.begin(), snapshot.processes.end(),
                    [](const ProcessView& p) { return p.state == "live" && p.role == "worker"; });
  const auto busy = std::count_if(
      snapshot.processes.begin(), snapshot.processes.end(), [&](const ProcessView& p) {
        return p.state == "live" && p.role == "worker" && snapshot.wait_of(p.tag) == nullptr;
      });
  lines.push_back(fmt::format(
      "family of {}: {} processes, {} of {} pool workers busy; shared memory {} of {} used, {} by "
      "objects",
      snapshot.root_pid, live, busy, workers,
      size_text(snapshot.memory.total - snapshot.memory.free), size_text(snapshot.memory.total),
      size_text(snapshot.memory.shared)));
  if (snapshot.log_lost != 0) {
    lines.push_back(fmt::format("log: {} records lost", snapshot.log_lost));
  }
  const std::string said = verdict(snapshot);
  for (std::size_t begin = 0; begin < said.size();) {
    const std::size_t end = said.find('\n', begin);
    lines.push_back(said.substr(begin, end - begin));
    begin = end + 1;
  }
  lines.emplace_back();
  lines.push_back(fmt::format("{:>8} {:<20} {:<10} {:>6} {:>7} {:>7}  {}", "PID", "NAME", "STARTED",
                              "CPU%", "RSS", "SHARED", "DOING"));
  for (const ProcessView& process : snapshot.processes) {
    const auto [what, seconds] = doing(snapshot, process);
    const std::string task = computing(snapshot, process.tag);
    lines.push_back(fmt::format(
        "{:>8} {:<20} {:<10} {:>6.1f} {:>7} {:>7}  {}{}{}", process.pid, clipped(process.name, 20),
        process.method.empty() ? process.role : process.method, process.cpu_percent,
        process.system ? size_text(process.system->resident_bytes) : "-",
        size_text(process.shared_bytes), task.empty() ? task : task + ": ", what,
        seconds ? " " + time_text(*seconds) : ""));
  }
  lines.emplace_back();
  for (const PoolView& pool : snapshot.pools) lines.push_back(pool_text(snapshot, pool));
  if (!snapshot.pools.empty()) lines.emplace_back();
  // What somebody waits for or holds first, then queues, then the rest as a number.
  std::map<std::string, std::size_t> others;
  for (const ObjectView& object : snapshot.objects) {
    if (!object.waits.empty() || !object.owner.none() || object.owner_died || object.depth) {
      lines.push_back(object_text(snapshot, object));
    } else {
      ++others[object.kind];
    }
  }
  std::string rest;
  for (const auto& [kind, count] : others) {
    rest += fmt::format("{}{} {}", rest.empty() ? "" : ", ", count, kind);
  }
  if (!rest.empty()) lines.push_back("nobody waits: " + rest);

  std::string text;
  for (const std::string& line : lines) text += clipped(line, width) + "\n";
  return text;
}

}  // namespace brood::top
