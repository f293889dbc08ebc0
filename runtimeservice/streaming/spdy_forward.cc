#include "runtimeservice/streaming/spdy_forward.h"

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "base/strings.h"
#include "runtimeservice/streaming/spdy_connection.h"

namespace streaming {
namespace {

// What waits for one target, and for all of a client; beyond, the client is not read on.
constexpr size_t kMaxInbound = 128 << 10;
constexpr size_t kMaxInboundOfAll = 1 << 20;

// A pair of streams. Lives as long as the client or the session have something to do with it.
struct Pair {
  Pair(asio::io_context& loop, uint64_t with_request, uint16_t to_port)
      : request(with_request), port(to_port), changed(loop) {}

  void SetGone() {
    gone = true;
    changed.Notify();
  }

  const uint64_t request;
  const uint16_t port;
  uint32_t error_stream = 0;  // 0: not opened yet.
  uint32_t data_stream = 0;
  std::string inbound;
  bool client_done = false;
  bool server_done = false;
  bool gone = false;  // Reset by either side, or the client has left.
  Signal changed;     // Any of these.
};
using PairPtr = std::shared_ptr<Pair>;

// The client's view of it; forgets what has ended.
struct Pairs {
  Pairs(asio::io_context& on_loop, std::unique_ptr<ByteStream> bytes, const Limits& limits)
      : loop(on_loop),
        connection(SpdyConnection::Create(on_loop, std::move(bytes), limits)),
        drained(on_loop) {}

  // No more comes from the client on this stream.
  void Forget(uint32_t stream) { streams.erase(stream); }
  void Reset(Pair& pair) {
    for (const uint32_t stream : {pair.error_stream, pair.data_stream}) {
      if (stream != 0) {
        connection->Reset(stream, SpdyReset::kCancel);
        Forget(stream);
      }
    }
    Drop(pair);
  }
  void Drop(Pair& pair) {
    if (const auto found = incomplete.find(pair.request);
        found != incomplete.end() && found->second.get() == &pair) {
      incomplete.erase(found);
    }
    pair.SetGone();
    Release(&pair.inbound);
    live.erase(&pair);
  }
  // What came for a pair is needed no more, which makes room for more.
  void Release(std::string* bytes) {
    inbound -= bytes->size();
    std::string().swap(*bytes);  // An assignment would keep its memory.
    drained.Notify();
  }
  void Clear() {
    for (const auto& [address, pair] : std::exchange(live, {})) {
      pair->SetGone();
    }
    streams.clear();
    incomplete.clear();
    drained.Notify();
  }

  asio::io_context& loop;
  const std::shared_ptr<SpdyConnection> connection;
  // Pairs that somebody may wait for.
  std::unordered_map<const Pair*, PairPtr> live;
  std::unordered_map<uint32_t, PairPtr> streams;     // Those the client may still send on.
  std::unordered_map<uint64_t, PairPtr> incomplete;  // By request.
  size_t inbound = 0;  // Bytes of all pairs, those that a target is being given included.
  Signal drained;      // These have become fewer.
};
using PairsPtr = std::shared_ptr<Pairs>;

class SpdyForwardedConnection final : public ForwardedConnection {
 public:
  SpdyForwardedConnection(PairsPtr pairs, PairPtr pair)
      : pairs_(std::move(pairs)), pair_(std::move(pair)) {}
  // Nobody will read what comes: unless both sides have ended it, it ends here.
  ~SpdyForwardedConnection() override {
    pairs_->Release(&pair_->inbound);
    pairs_->Release(&bytes_);
    pairs_->live.erase(pair_.get());
    if (!pair_->gone && !(pair_->client_done && pair_->server_done)) {
      pairs_->Reset(*pair_);
    }
    // The client has left it half open: it would count as long as the client stays.
    if (const uint32_t error = pair_->error_stream; pairs_->streams.contains(error)) {
      pairs_->connection->Reset(error, SpdyReset::kCancel);
      pairs_->Forget(error);
    }
  }

  uint16_t port() const override { return pair_->port; }
  bool cancelled() const override { return pair_->gone; }

  Task<absl::StatusOr<std::string_view>> Read() override {
    pairs_->Release(&bytes_);  // A target has taken it.
    // Behind the half-close there is nothing but its end to wait for.
    const bool ended = std::exchange(end_was_read_, false);
    while (!pair_->gone && pair_->inbound.empty() &&
           !(pair_->client_done && (!ended || pair_->server_done))) {
      co_await pair_->changed.Wait();
    }
    if (pair_->gone) {
      co_return absl::CancelledError("the client gave the connection up");
    }
    bytes_ = std::exchange(pair_->inbound, {});
    pairs_->drained.Notify();
    end_was_read_ = bytes_.empty();
    co_return bytes_;
  }

  Task<absl::Status> Write(std::string_view bytes) override {
    absl::Status status = co_await pairs_->connection->Write(pair_->data_stream, bytes);
    co_return status;
  }

  Task<> FinishWriting() override {
    pairs_->connection->FinishStream(pair_->data_stream);
    // Without a word: nothing went wrong.
    pairs_->connection->FinishStream(pair_->error_stream);
    pair_->server_done = true;
    pair_->changed.Notify();
    co_return;
  }

  Task<> Fail(std::string_view text) override {
    if (!pair_->gone) {
      pairs_->connection->WriteShort(pair_->error_stream, text);
      pairs_->Reset(*pair_);
    }
    co_return;
  }

 private:
  const PairsPtr pairs_;
  const PairPtr pair_;
  std::string bytes_;  // What Read gave out.
  bool end_was_read_ = false;
};

// The number that `text` is, if it is one in decimal.
template <typename T>
std::optional<T> Decimal(std::optional<std::string_view> text) {
  T number = 0;
  if (!text.has_value() || text->find_first_not_of("0123456789") != std::string_view::npos ||
      !absl::SimpleAtoi(base::ToAbsl(*text), &number)) {
    return std::nullopt;
  }
  return number;
}

class SpdyForwardClient final : public ForwardClient {
 public:
  SpdyForwardClient(asio::io_context& loop, std::unique_ptr<ByteStream> bytes, const Limits& limits)
      : pairs_(std::make_shared<Pairs>(loop, std::move(bytes), limits)), limits_(limits) {}
  ~SpdyForwardClient() override {
    Abort();
    pairs_->Clear();
  }

  Task<absl::Status> Serve(OnConnection opened) override;
  void Abort() override {
    pairs_->connection->Close(absl::CancelledError("the session was ended"));
  }

 private:
  // The pair that the new stream belongs to, which has it now; nothing when it is refused.
  PairPtr Join(const SpdyEvent& event);
  Task<> Take(const SpdyEvent& event);
  static Task<> Expire(PairsPtr pairs, PairPtr pair, absl::Duration limit);

  const PairsPtr pairs_;
  const Limits limits_;
};

Task<absl::Status> SpdyForwardClient::Serve(OnConnection opened) {
  pairs_->connection->OnClosed([pairs = std::weak_ptr<Pairs>(pairs_)] {
    if (const PairsPtr left = pairs.lock()) {
      left->Clear();
    }
  });
  while (true) {
    const absl::StatusOr<std::optional<SpdyEvent>> event = co_await pairs_->connection->Next();
    if (!event.ok() || !event->has_value()) {
      pairs_->Clear();
      co_return event.ok() ? absl::OkStatus() : event.status();
    }
    const SpdyEvent& what = **event;
    if (what.kind != SpdyEvent::Kind::kOpened) {
      co_await Take(what);
      continue;
    }
    const PairPtr pair = Join(what);
    if (pair == nullptr) {
      pairs_->connection->Reset(what.stream, SpdyReset::kProtocolError);
      continue;
    }
    pairs_->connection->Accept(what.stream);
    if (what.fin) {
      co_await Take(what);
    }
    if (pair->error_stream != 0 && pair->data_stream != 0) {
      pairs_->incomplete.erase(pair->request);
      pair->changed.Notify();
      opened(std::make_shared<SpdyForwardedConnection>(pairs_, pair));
    }
  }
}

PairPtr SpdyForwardClient::Join(const SpdyEvent& event) {
  const std::string_view type = event.headers.Find("streamtype").value_or("");
  const std::optional<uint32_t> port = Decimal<uint32_t>(event.headers.Find("port"));
  const bool is_error = type == "error";
  if ((!is_error && type != "data") || !port.has_value() || *port < 1 || *port > 65535) {
    return nullptr;
  }
  std::optional<uint64_t> request;
  if (const auto named = event.headers.Find("requestid"); named.has_value()) {
    request = Decimal<uint64_t>(named);
  } else {
    // Old clients open the two one behind the other.
    request = is_error ? event.stream : event.stream - 2;
  }
  if (!request.has_value()) {
    return nullptr;
  }
  PairPtr& pair = pairs_->incomplete[*request];
  if (pair == nullptr) {
    pair = std::make_shared<Pair>(pairs_->loop, *request, static_cast<uint16_t>(*port));
    pairs_->live[pair.get()] = pair;
    Spawn(pairs_->loop, Expire(pairs_, pair, limits_.creation));
  }
  uint32_t& stream = is_error ? pair->error_stream : pair->data_stream;
  if (stream != 0 || pair->port != *port) {
    return nullptr;
  }
  stream = event.stream;
  pairs_->streams[event.stream] = pair;
  return pair;
}

Task<> SpdyForwardClient::Take(const SpdyEvent& event) {
  const auto found = pairs_->streams.find(event.stream);
  if (found == pairs_->streams.end()) {
    co_return;
  }
  const PairPtr pair = found->second;
  const bool is_data = event.stream == pair->data_stream;
  const bool reset = event.kind == SpdyEvent::Kind::kReset;
  if (event.fin || reset) {
    pairs_->Forget(event.stream);
  }
  if (!is_data) {
    co_return;  // The client has nothing to say there.
  }
  if (reset) {
    // The error stream ends without a word.
    pairs_->connection->FinishStream(pair->error_stream);
    pairs_->Drop(*pair);
    co_return;
  }
  pair->inbound += event.bytes;
  pairs_->inbound += event.bytes.size();
  pair->client_done |= event.fin;
  pair->changed.Notify();
  while ((pair->inbound.size() > kMaxInbound || pairs_->inbound > kMaxInboundOfAll) &&
         !pairs_->connection->closed()) {
    co_await pairs_->drained.Wait();
  }
}

Task<> SpdyForwardClient::Expire(PairsPtr pairs, PairPtr pair, absl::Duration limit) {
  const base::SteadyTime end = base::SteadyTime::Now() + limit;
  while (!pair->gone && (pair->error_stream == 0 || pair->data_stream == 0)) {
    const absl::Duration left = end - base::SteadyTime::Now();
    if (left > absl::ZeroDuration()) {
      co_await pair->changed.WaitFor(left);
      continue;
    }
    const uint32_t lone = pair->error_stream != 0 ? pair->error_stream : pair->data_stream;
    const std::string text = base::StrCat(
        "port ", pair->port, ": its ", pair->error_stream == 0 ? "error" : "data",
        " stream was not opened within creation_seconds (", absl::ToInt64Seconds(limit), ")");
    pairs->connection->WriteShort(lone, text);
    pairs->Reset(*pair);
  }
}

}  // namespace

std::unique_ptr<ForwardClient> MakeSpdyForwardClient(asio::io_context& loop,
                                                     std::unique_ptr<ByteStream> bytes,
                                                     const Limits& limits) {
  return std::make_unique<SpdyForwardClient>(loop, std::move(bytes), limits);
}

}  // namespace streaming
