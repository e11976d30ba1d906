// What the steps cost that the simulation counts with: of a nats-server that runs here, with
// JetStream, and of the client's own work. Usage: server_costs URL PID-OF-THE-SERVER
#include <nats/nats.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <unistd.h>

#include <brood/cluster/message.hpp>
#include <brood/cluster/task_table.hpp>

namespace {

using Clock = std::chrono::steady_clock;

void must(natsStatus status, const char* what) {
  if (status != NATS_OK) {
    throw std::runtime_error(fmt::format("{}: {}", what, natsStatus_GetText(status)));
  }
}

// Seconds of the CPU that a process has used.
double cpu_of(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text(std::istreambuf_iterator<char>(file), {});
  const std::size_t name = text.rfind(')');
  if (name == std::string::npos) throw std::runtime_error("no such process: " + pid);
  std::istringstream fields(text.substr(name + 1));
  std::vector<std::string> all(std::istream_iterator<std::string>(fields), {});
  return (std::stod(all.at(11)) + std::stod(all.at(12))) /
         static_cast<double>(::sysconf(_SC_CLK_TCK));
}

template <class Step>
void measure(const std::string& server, const char* what, int n, Step step) {
  const double before = cpu_of(server);
  const double mine = cpu_of("self");
  const auto begin = Clock::now();
  for (int i = 0; i < n; ++i) step(i);
  const double wall = std::chrono::duration<double>(Clock::now() - begin).count();
  fmt::print("{:<44} {:7.1f} us, server {:6.1f} us of CPU, this program {:6.1f}\n", what,
             wall / n * 1e6, (cpu_of(server) - before) / n * 1e6,
             (cpu_of("self") - mine) / n * 1e6);
}

void measure_server(const std::string& url, const std::string& server) {
  natsOptions* options = nullptr;
  natsConnection* connection = nullptr;
  natsConnection* listener = nullptr;
  jsCtx* js = nullptr;
  must(natsOptions_Create(&options), "options");
  must(natsOptions_SetURL(options, url.c_str()), "the URL");
  must(natsOptions_SetSendAsap(options, true), "options");
  must(natsConnection_Connect(&connection, options), "connect");
  must(natsConnection_Connect(&listener, options), "connect");
  must(natsConnection_JetStream(&js, connection, nullptr), "JetStream");

  const std::string subject = fmt::format("costs{}", ::getpid());
  const char* subjects[] = {subject.c_str()};
  jsStreamConfig stream;
  jsStreamConfig_Init(&stream);
  stream.Name = subject.c_str();
  stream.Subjects = subjects;
  stream.SubjectsLen = 1;
  stream.Retention = js_WorkQueuePolicy;
  must(js_AddStream(nullptr, js, &stream, nullptr, nullptr), "make a stream");
  jsConsumerConfig consumer;
  jsConsumerConfig_Init(&consumer);
  consumer.Durable = "all";
  consumer.AckPolicy = js_AckExplicit;
  consumer.MaxAckPending = 100'000;
  must(js_AddConsumer(nullptr, js, subject.c_str(), &consumer, nullptr, nullptr), "a consumer");

  const std::string bytes(400, 'x');
  constexpr int kMessages = 20'000;
  measure(server, "store a message, confirmed", 2 * kMessages, [&](int i) {
    jsPubOptions how;
    jsPubOptions_Init(&how);
    const std::string id = std::to_string(i);
    how.MsgId = id.c_str();
    must(js_Publish(nullptr, js, subject.c_str(), bytes.data(), 400, &how, nullptr), "publish");
  });
  jsSubOptions bound;
  jsSubOptions_Init(&bound);
  bound.Stream = subject.c_str();
  bound.Consumer = "all";
  natsSubscription* pull = nullptr;
  must(js_PullSubscribe(&pull, js, nullptr, "all", nullptr, &bound, nullptr), "pull");
  std::vector<natsMsg*> held;
  measure(server, "hand one out at a request", kMessages, [&](int) {
    natsMsgList list{};
    must(natsSubscription_Fetch(&list, pull, 1, 2000, nullptr), "fetch");
    held.push_back(list.Msgs[0]);
    list.Msgs[0] = nullptr;
    natsMsgList_Destroy(&list);
  });
  measure(server, "renew a lease", kMessages, [&](int i) {
    must(natsMsg_InProgress(held[static_cast<std::size_t>(i)], nullptr), "x");
  });
  must(natsConnection_Flush(connection), "flush");
  measure(server, "done, the last one waits for all", kMessages, [&](int i) {
    must(natsMsg_Ack(held[static_cast<std::size_t>(i)], nullptr), "ack");
    if (i + 1 == kMessages) must(natsConnection_Flush(connection), "flush");
  });
  for (natsMsg* message : held) natsMsg_Destroy(message);
  measure(server, "hand out 16 at a request, and done", kMessages / 16, [&](int) {
    natsMsgList list{};
    must(natsSubscription_Fetch(&list, pull, 16, 2000, nullptr), "fetch");
    for (int k = 0; k < list.Count; ++k) must(natsMsg_Ack(list.Msgs[k], nullptr), "ack");
    natsMsgList_Destroy(&list);
  });
  measure(server, "what a consumer has", kMessages / 10, [&](int) {
    jsConsumerInfo* info = nullptr;
    must(js_GetConsumerInfo(&info, js, subject.c_str(), "all", nullptr, nullptr), "info");
    jsConsumerInfo_Destroy(info);
  });
  constexpr int kListeners = 100;
  std::vector<natsSubscription*> listeners(kListeners);
  for (natsSubscription*& each : listeners) {
    must(natsConnection_SubscribeSync(&each, listener, "plain"), "subscribe");
  }
  must(natsConnection_Flush(listener), "flush");
  measure(server, "pass a plain message on, to 100", kMessages / 100, [&](int) {
    must(natsConnection_PublishString(connection, "plain", bytes.c_str()), "publish");
    must(natsConnection_Flush(connection), "flush");
  });
  must(natsConnection_Flush(listener), "flush");
  measure(server, "there and back", kMessages / 4,
          [&](int) { must(natsConnection_Flush(connection), "flush"); });
  for (natsSubscription* each : listeners) natsSubscription_Destroy(each);
  natsSubscription_Destroy(pull);
  must(js_DeleteStream(js, subject.c_str(), nullptr, nullptr), "delete the stream");
  jsCtx_Destroy(js);
  natsConnection_Destroy(listener);
  natsConnection_Destroy(connection);
  natsOptions_Destroy(options);
}

struct Nothing final : brood::detail::ClusterTask {
  void finish(std::span<const std::byte> /*value*/) override {}
  void fail(std::exception_ptr /*error*/) override {}
};

// The table, the encoding and the signatures, for messages of so many tasks and their results.
void measure_client(std::size_t together) {
  using namespace brood::detail;
  constexpr std::size_t kTasks = 200'000;
  const MessageKeys keys("the key of a cluster");
  const ClientId id(32, '0');
  TaskTable table(TaskTable::Setup{}, 1, TaskTable::Time(std::chrono::hours(1)));
  const auto call = std::make_shared<ClusterCall>();
  std::uint64_t number = 0;
  const auto begin = Clock::now();
  for (std::size_t i = 0; i < kTasks / together; ++i) {
    const auto now = TaskTable::Time(std::chrono::hours(1));
    TaskMessage message{.client = id, .kind = call->kind, .items = {}};
    for (std::size_t k = 0; k < together; ++k) {
      table.add(call, Bytes(100), std::make_shared<Nothing>(), now);
      while (true) {
        TaskTable::Batch batch = table.next(now);
        if (!batch.call) break;
        for (TaskItem& item : batch.items) message.items.push_back(std::move(item));
      }
    }
    const Bytes task = sign(message, keys);
    ResultMessage results{.client = id, .node = "node", .results = {}};
    for (std::size_t k = 0; k < together; ++k) {
      results.results.push_back({.number = ++number, .bytes = Bytes(100)});
    }
    const Bytes result = sign(results, keys);  // the agent's work, which is as much
    for (const TaskResult& each : open_result(result, keys).results) {
      const TaskTable::Verdict verdict = table.accept(each, now);
      if (verdict.task) verdict.task->finish(each.bytes);
    }
    table.accepted();
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  fmt::print("client, messages of {:3} tasks: {:6.1f} us a message, {:5.2f} us a task\n", together,
             seconds / static_cast<double>(kTasks / together) * 1e6, seconds / kTasks * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("server_costs URL PID-OF-THE-SERVER\n", stderr);
    return 2;
  }
  try {
    measure_server(argv[1], argv[2]);
    for (const std::size_t together : {1U, 10U, 100U}) measure_client(together);
    nats_Close();
    return 0;
  } catch (const std::exception& e) {
    fmt::print(stderr, "server_costs: {}\n", e.what());
    return 1;
  }
}
