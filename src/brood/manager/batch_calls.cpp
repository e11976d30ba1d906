#include <brood/manager/batch_calls.hpp>

#include <utility>

#include <brood/channel/codec.hpp>
#include <brood/channel/exception_data.hpp>
#include <brood/errors.hpp>
#include <brood/manager/managed.hpp>
#include <brood/manager/server.hpp>

namespace brood::detail {
namespace {

void put_bytes(ByteSink& sink, std::span<const std::byte> bytes) {
  const std::uint64_t size = bytes.size();
  sink.write(&size, sizeof size);
  sink.write(bytes.data(), bytes.size());
}

std::span<const std::byte> get_bytes(ByteSource& source) {
  const auto size = decode<std::uint64_t>(source);
  return {source.take(size), size};
}

/// The thunk of a batch, in the server.
void run_batch(CallRun& run) {
  while (run.arguments.remaining() > 0) {
    const auto head = decode<BatchCalls::Head>(run.arguments);
    ByteSource arguments(get_bytes(run.arguments));
    VectorSink reply;
    CallOutcome outcome = CallOutcome::value;
    bool given_up = false;
    ErrorRecord error;
    const bool done = run_catching(
        [&] {
          try {
            Server::here()->run_call(head.function, head.object, run.giver, arguments, reply);
          } catch (const CallGivenUp&) {
            given_up = true;
          }
        },
        error);
    if (given_up) throw CallGivenUp();
    std::vector<std::byte> encoded;
    if (!done) {
      outcome = CallOutcome::error;
      sign_error(error);
      encode_error(encoded, error);
    }
    encode(run.reply, outcome);
    put_bytes(run.reply, done ? reply.bytes() : std::span<const std::byte>(encoded));
    for (Handle& handle : reply.take_kept()) run.reply.keep(std::move(handle));
  }
}

}  // namespace

void BatchCalls::add(const void* server, Begin begin, Head head, VectorSink& arguments) {
  if (ran_) throw StateError("this batch has run: make another");
  if (count_ > 0 && server != server_) {
    throw ArgumentError("a batch is of objects of one manager, and this object is another's");
  }
  server_ = server;
  encode(bytes_, head);
  put_bytes(bytes_, arguments.bytes());
  for (Handle& handle : arguments.take_kept()) bytes_.keep(std::move(handle));
  begins_.push_back(std::move(begin));
  ++count_;
}

void BatchCalls::run(Deadline deadline) {
  if (std::exchange(ran_, true)) throw StateError("this batch has run already: make another");
  if (count_ == 0) return;
  const std::vector<Begin> begins = std::exchange(begins_, {});
  std::shared_ptr<PendingCall> call = begins.front()(thunk_id<&run_batch, ThunkKind::call>());
  call->arguments().write(bytes_.bytes().data(), bytes_.bytes().size());
  for (const Handle& handle : bytes_.kept()) call->arguments().keep(handle);
  call->send();
  ByteSource source(call->finish(deadline));
  for (std::size_t i = 0; i < count_; ++i) {
    const auto outcome = decode<CallOutcome>(source);
    results_.push_back({.outcome = outcome, .bytes = get_bytes(source)});
  }
  call_ = std::move(call);
}

std::span<const std::byte> BatchCalls::result(std::size_t index) const {
  if (index >= results_.size()) {
    throw StateError("the batch that this result is of has not run, or not to its end");
  }
  const Result& result = results_[index];
  if (result.outcome == CallOutcome::value) return result.bytes;
  throw_error(decode_error(result.bytes));
}

}  // namespace brood::detail
