#include "server.hpp"

#include <arpa/inet.h>
#include <signal.h>

#include <array>
#include <chrono>
#include <fstream>
#include <random>
#include <thread>

#include <fmt/format.h>

#include <brood/cluster/hex_digits.hpp>
#include <brood/platform/stop_signals.hpp>

#include "failure.hpp"
#include "processes.hpp"
#include "watch.hpp"

namespace tool {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// In double quotes of the server's configuration.
std::string text(const std::string& value) {
  if (value.find_first_of("\"\\\n") != std::string::npos) {
    throw Failure(fmt::format("{}: quotes and backslashes cannot be in the name", value));
  }
  return '"' + value + '"';
}

/// What an agent needs, and no more: it takes tasks, confirms them, hands over results and beats,
/// in parts where they are large, and hears what clients tell all agents. Submitting tasks is not
/// among it, nor is reading what others are answered, results for instance. Parts it gets by their
/// names alone, which nobody guesses: asking for the next part, whatever its name, is another
/// subject.
std::vector<std::string> agent_requests(const std::string& name) {
  return {fmt::format("$JS.API.CONSUMER.INFO.{}_tasks.*", name),
          fmt::format("$JS.API.CONSUMER.MSG.NEXT.{}_tasks.*", name),
          fmt::format("$JS.ACK.{}_tasks.>", name),
          fmt::format("$JS.API.DIRECT.GET.{}_parts.>", name),
          fmt::format("$JS.API.STREAM.MSG.DELETE.{}_parts", name),
          fmt::format("{}.result.*", name),
          fmt::format("{}.result_part.>", name),
          fmt::format("$JS.API.STREAM.MSG.DELETE.{}_result_parts", name),
          fmt::format("$JS.API.STREAM.PURGE.{}_result_parts", name),
          fmt::format("{}.claim", name),
          fmt::format("{}.beat", name)};
}

struct Passwords {
  std::string client = brood::detail::random_hex_digits(16);
  std::string agent = brood::detail::random_hex_digits(16);
};

std::string configuration(const State& state, const Options& options, const std::string& listen,
                          const Passwords& passwords) {
  std::string tls;
  if (!options.certificate.empty()) {
    tls = fmt::format("tls: {{ cert_file: {}, key_file: {} }}\n",
                      text(options.certificate.string()), text(options.certificate_key.string()));
  }
  std::string exports;
  std::string imports;
  std::string subjects;
  for (const std::string& subject : agent_requests(state.name)) {
    // NOTE: what is answered more than once, as fetching is, must be called a stream of answers.
    exports += fmt::format("      {{ service: \"{}\", response_type: stream }}\n", subject);
    constexpr std::string_view kApi = "$JS.API";
    const std::string here =
        subject.starts_with(kApi) ? agents_api(state.name) + subject.substr(kApi.size()) : subject;
    imports +=
        fmt::format("      {{ service: {{ account: CLUSTER, subject: \"{}\" }}, to: \"{}\" }}\n",
                    subject, here);
    subjects += fmt::format("{}\"{}\"", subjects.empty() ? "" : ", ", here);
  }
  // SUBTLE: permissions alone are not enough. A request names the subject that the answer goes to,
  // and nobody asks whether its sender may write there: an agent could have a message that it wrote
  // to a stream sent on as a task. So agents have an account of their own, in which the answers
  // stay: nothing of it is seen in the other but what is exported.
  return fmt::format(R"(# Of brood-cluster up.
listen: "{0}"
max_payload: 8MB
jetstream: {{ store_dir: {1} }}
{2}accounts: {{
  CLUSTER: {{
    jetstream: enabled
    users: [ {{ user: client, password: "{3}" }} ]
    exports: [
{4}      {{ stream: "{5}.note" }}
    ]
  }}
  AGENTS: {{
    users: [
      {{ user: agent, password: "{6}", permissions: {{
        publish: {{ allow: [ {7} ] }}
        subscribe: {{ allow: [ "_INBOX.>", "{5}.note" ] }}
      }} }}
    ]
    imports: [
{8}      {{ stream: {{ account: CLUSTER, subject: "{5}.note" }} }}
    ]
  }}
}}
)",
                     listen, text(state.store.string()), tls, passwords.client, exports, state.name,
                     passwords.agent, subjects, imports);
}

std::string version_in(const fs::path& log) {
  std::ifstream file(log);
  for (std::string line; std::getline(file, line);) {
    constexpr std::string_view kBefore = "Version:";
    const std::size_t at = line.find(kBefore);
    if (at == std::string::npos) continue;
    const std::size_t first = line.find_first_not_of(' ', at + kBefore.size());
    return first == std::string::npos ? "" : line.substr(first);
  }
  return {};
}

bool is_number(const std::string& address) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return ::inet_pton(AF_INET, address.c_str(), bytes.data()) == 1 ||
         ::inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1;
}

/// The address in a URL, and what the server listens at.
struct Address {
  std::string shown;
  std::string listen;
};

Address address_of(const Options& options) {
  std::string name = options.address;
  if (name.empty()) name = options.hosts.empty() ? "127.0.0.1" : brood::detail::host_name();
  if (is_number(name)) {
    const std::string shown = name.find(':') == std::string::npos ? name : '[' + name + ']';
    return {.shown = shown, .listen = shown};
  }
  // NOTE: a machine's own name may be a loopback address to itself, as it is in Debian.
  return {.shown = name, .listen = name == "localhost" ? "127.0.0.1" : "0.0.0.0"};
}

/// True when it answers; false when it has ended.
bool await_answer(const State& state, Clock::time_point end, const fs::path& log) {
  std::string why;
  for (;;) {
    check_interrupt();
    if (!lives(state.server)) return false;
    try {
      const Watch watch(state);
      return lives(state.server);  // and not another one at the same port
    } catch (const std::exception& e) {
      why = e.what();
    }
    if (Clock::now() > end) {
      throw Failure(fmt::format("the server does not answer: {}{}", why, end_of(log)));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

void start_server(State& state, const StateFolder& folder, const Options& options) {
  const fs::path program = find_program(options.server);
  if (program.empty()) {
    throw Failure(options.server == Options{}.server
                      ? "nats-server is not installed: apt-get install nats-server, or --server "
                        "PROGRAM where it stands elsewhere"
                      : fmt::format("{} is no program that can be executed", options.server));
  }
  const Passwords passwords;
  const Address address = address_of(options);
  const fs::path log = folder.file("server.log");
  const auto end = Clock::now() + std::chrono::seconds(options.wait);
  // Below the ports that connections get: a client that tries again and again to connect to one of
  // those may meet itself there.
  constexpr unsigned kFirst = 20'000;
  constexpr unsigned kPorts = 12'000;
  constexpr int kMostTurns = 20;
  std::random_device random;
  for (int turn = 0;; ++turn) {
    const unsigned port = options.port != 0 ? options.port : kFirst + random() % kPorts;
    const std::string scheme = options.certificate.empty() ? "nats" : "tls";
    const auto url = [&](const char* user, const std::string& password) {
      return fmt::format("{}://{}:{}@{}:{}", scheme, user, password, address.shown, port);
    };
    state.url = url("client", passwords.client);
    state.agent_url = options.trust_agents ? state.url : url("agent", passwords.agent);
    write_private(
        folder.file("server.conf"),
        configuration(state, options, fmt::format("{}:{}", address.listen, port), passwords));
    state.server =
        start_detached({program.string(), "-c", folder.file("server.conf").string()}, {}, log);
    folder.save(state);
    if (await_answer(state, end, log)) break;
    const std::string said = end_of(log);
    const bool taken = said.find("address already in use") != std::string::npos;
    if (!taken || options.port != 0 || turn == kMostTurns) {
      throw Failure(fmt::format("{} {}:{}", program.string(), how_it_ended(state.server), said));
    }
  }
  state.version = version_in(log);
  folder.save(state);
}

}  // namespace tool
