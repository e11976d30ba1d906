#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "commands.hpp"
#include "failure.hpp"
#include "hosts.hpp"
#include "state.hpp"
#include "watch.hpp"

namespace tool {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

struct Agent {
  AgentRecord record;  // its host is "-" for one that others started
  Life life = Life::unknown;
  bool heard = false;
  Node node = {};
};

struct View {
  State state = {};
  bool server_lives = false;
  std::string silence;  // why the server does not answer; empty: it does
  std::vector<Stream> streams;
  std::vector<Agent> agents;
  std::vector<Node> others;  // that somebody else has started

  [[nodiscard]] bool is_whole() const {
    return server_lives && silence.empty() && std::ranges::all_of(agents, [](const Agent& agent) {
             return agent.heard && agent.life != Life::gone;
           });
  }
};

std::string_view word(Life life) {
  switch (life) {
    case Life::lives:
      return "lives";
    case Life::gone:
      return "gone";
    case Life::unknown:
      break;
  }
  return "unknown";
}

void look_for_processes(View& view) {
  std::vector<AgentRecord> there;
  for (const AgentRecord& agent : view.state.agents) {
    if (!agent.host.empty()) there.push_back(agent);
  }
  const std::vector<Life> lives_there = look_at_hosts(view.state, there);
  std::size_t next = 0;
  for (const AgentRecord& record : view.state.agents) {
    const Life life = !record.host.empty()    ? lives_there[next++]
                      : lives(record.process) ? Life::lives
                                              : Life::gone;
    view.agents.push_back({.record = record, .life = life});
  }
}

void listen(View& view) {
  try {
    Watch watch(view.state);
    view.streams = watch.streams();
    // Each is heard of once a second: those that live are waited for, and all for a while, as
    // others may have started some.
    const auto start = Clock::now();
    const std::map<std::string, Node>* nodes = nullptr;
    for (bool missing = true; Clock::now() < start + (missing ? 5000ms : 1200ms);) {
      nodes = &watch.hear(100ms);
      missing = std::ranges::any_of(view.agents, [&](const Agent& agent) {
        return agent.life != Life::gone && !nodes->contains(agent.record.node);
      });
    }
    std::set<std::string> known;
    for (Agent& agent : view.agents) {
      known.insert(agent.record.node);
      const auto found = nodes->find(agent.record.node);
      agent.heard = found != nodes->end();
      if (agent.heard) agent.node = found->second;
    }
    for (const auto& [name, node] : *nodes) {
      if (!known.contains(name)) view.others.push_back(node);
    }
  } catch (const std::exception& e) {
    view.silence = e.what();
  }
}

std::string quoted_json(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string address(const State& state) {
  const std::size_t begin = state.url.find("://") + 3;
  return state.url.substr(0, begin) + state.url.substr(state.url.find('@') + 1);
}

std::string as_json(const View& view) {
  const State& state = view.state;
  std::string out = fmt::format(
      R"({{"name":{},"url":{},"whole":{},"server":{{"pid":{},"lives":{},"answers":{},"version":{}}},)",
      quoted_json(state.name), quoted_json(address(state)), view.is_whole(), state.server.pid,
      view.server_lives, view.silence.empty(), quoted_json(state.version));
  const auto list = [&](std::string_view name, const auto& things, auto&& put) {
    out += fmt::format("\"{}\":[", name);
    for (bool first = true; const auto& thing : things) {
      if (!std::exchange(first, false)) out += ',';
      put(thing);
    }
    out += ']';
  };
  list("streams", view.streams, [&](const Stream& stream) {
    out += fmt::format(R"({{"name":{},"messages":{}}})", quoted_json(stream.name), stream.messages);
  });
  out += ',';
  list("agents", view.agents, [&](const Agent& agent) {
    out += fmt::format(
        R"({{"host":{},"pid":{},"node":{},"process":"{}","heard":{},"workers":{},"in_hand":{}}})",
        agent.record.host.empty() ? "null" : quoted_json(agent.record.host),
        agent.record.process.pid, quoted_json(agent.record.node), word(agent.life), agent.heard,
        agent.node.workers, agent.node.in_hand);
  });
  out += ',';
  list("others", view.others, [&](const Node& node) {
    out += fmt::format(R"({{"node":{},"workers":{},"in_hand":{}}})", quoted_json(node.name),
                       node.workers, node.in_hand);
  });
  return out + "}\n";
}

std::string as_text(const View& view) {
  const State& state = view.state;
  std::string out = fmt::format("cluster {} at {}\n", state.name, address(state));
  out += fmt::format("server    {}, version {}, process {}\n",
                     !view.server_lives      ? "GONE"
                     : !view.silence.empty() ? "DOES NOT ANSWER: " + view.silence
                                             : "is there",
                     state.version, state.server.pid);
  for (const Stream& stream : view.streams) {
    out += fmt::format("stream    {}: {} messages\n", stream.name, stream.messages);
  }
  const auto work = [](const Node& node) {
    return fmt::format("{} workers, {} tasks in hand", node.workers, node.in_hand);
  };
  for (const Agent& agent : view.agents) {
    const std::string says = agent.life == Life::gone ? "GONE; its log: " + agent.record.log
                             : agent.heard            ? work(agent.node)
                                           : "NOT HEARD OF; its log: " + agent.record.log;
    out += fmt::format("agent     {}{}{}: {}\n", agent.record.host,
                       agent.record.host.empty() ? "" : " ", agent.record.node, says);
  }
  for (const Node& node : view.others) {
    out += fmt::format("agent     {}, started by others: {}\n", node.name, work(node));
  }
  return out;
}

}  // namespace

int status(const Options& options) {
  View view;
  view.state = StateFolder(options).load();
  view.server_lives = lives(view.state.server);
  look_for_processes(view);
  if (view.server_lives) {
    listen(view);
  } else {
    view.silence = "it is gone";
  }
  fmt::print("{}", options.json ? as_json(view) : as_text(view));
  return view.is_whole() ? 0 : 1;
}

}  // namespace tool
